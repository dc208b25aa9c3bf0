"""Snapshots: going on with the same bits, whole pairs or none, and what is refused."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import caffebn
from caffebn import seeding
from caffebn.errors import CaffebnWarning, FileError, FormatError, SolverError, WeightsError
from caffebn.net import Net
from caffebn.proto import UnknownBinary, binary, text
from caffebn.solvers import Solver, get_solver
from caffebn.solvers.rules import RULES
from caffebn.solvers.snapshot import FIELD, read_state
from tests.solvers.small import NET, message, recorded, solver, state_of, train

pytestmark = pytest.mark.usefixtures("here")

FORMATS = {"BINARYPROTO": "", "HDF5": ".h5"}


def snapping(more: str = "", **settings: str) -> Solver:
    return solver(f'snapshot_prefix: "snap" {more}', momentum="0.9", **settings)


def snapshot(more: str = "", n: int = 2) -> tuple[str, str]:
    """Train, and return the paths of a snapshot."""
    made = snapping(more)
    made.step(n)
    return made.snapshot()


# -- going on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rule", list(RULES))
def test_a_restart_gives_the_bits_of_an_unbroken_run(rule, form):
    """With Dropout, BatchNorm, clipping, a step counter, and first weights from a filler."""
    momentum = "0" if rule in ("AdaGrad", "RMSProp") else "0.9"
    settings = {
        "more": f'type: "{rule}" snapshot_prefix: "snap" snapshot_format: {form} clip_gradients: 0.5 '
        "weight_decay: 0.01 gamma: 0.5 stepvalue: 2 stepvalue: 6 iter_size: 2",
        "lr_policy": '"multistep"',
        "momentum": momentum,
    }
    unbroken = solver(**settings)
    losses = train(unbroken, 8)
    first = solver(**settings)
    begun = train(first, 4)
    _, path = first.snapshot()
    assert path == f"snap_iter_4.solverstate{FORMATS[form]}"
    second = solver(**(settings | {"random_seed": "99"}))
    assert state_of(second) != state_of(first)
    second.restore(path)
    assert second.iter == 4 and state_of(second) == state_of(first)
    assert begun + train(second, 4) == losses
    assert state_of(second) == state_of(unbroken)


def test_in_double_precision():
    options = {"options": {"dtype": "float64"}}
    unbroken = snapping(**options)
    unbroken.step(4)
    first = snapping(**options)
    first.step(2)
    _, path = first.snapshot()
    second = snapping(**options)
    second.restore(path)
    second.step(2)
    assert state_of(second) == state_of(unbroken)


def test_tests_go_on_too():
    """A test net's place in the data, and a snapshot between the update and the test of the next iteration."""
    net = NET.replace('type: "Input"', 'type: "MemoryData"', 1).replace(
        "input_param { shape { dim: 6 dim: 5 } shape { dim: 6 } }",
        "memory_data_param { batch_size: 2 channels: 5 height: 1 width: 1 }",
    )
    rng = np.random.default_rng(0)
    data = rng.normal(size=(14, 5, 1, 1)).astype(np.float32), rng.integers(3, size=14).astype(np.float32)
    results: dict[str, list] = {}

    def make(name: str) -> Solver:
        p = message("test_iter: 2 test_interval: 2 snapshot: 4 snapshot_prefix: 'snap'", net)
        made = get_solver(p)
        for each in (made.net, *made.test_nets):
            each.set_input_arrays(*data)
        results[name] = []
        made.listeners.append(lambda e: results[name].append(str(e)) if "Testing" in str(e) else None)
        return made

    unbroken = make("unbroken")
    unbroken.step(8)
    resumed = make("resumed")
    resumed.restore("snap_iter_4.solverstate")
    assert [n.layer_dict["data"].position for n in (resumed.net, *resumed.test_nets)] == [8, 8]
    resumed.step(4)
    assert state_of(resumed) == state_of(unbroken)
    assert results["resumed"] == results["unbroken"][2:]
    assert len(set(results["resumed"])) == 2

    without_data = get_solver(message("test_iter: 2 test_interval: 2", net))
    with pytest.raises(
        caffebn.errors.ArgumentError, match=r'layer "data" \(MemoryData\): cannot go on at item 8 of 0'
    ):
        without_data.restore("snap_iter_4.solverstate")


def test_another_process_would_read_the_same_file():
    """Nothing in it depends on when or where it was written."""
    paths = snapshot()
    first = [Path(p).read_bytes() for p in paths]
    assert [Path(p).read_bytes() for p in snapshot()] == first


# -- the files ---------------------------------------------------------------------------------------


def test_protobuf_reads_the_state():
    """Caffe's own reader is made by protobuf: it gets its fields, and keeps ours without a look."""
    caffe_pb2 = pytest.importorskip("caffebn.proto.caffe_pb2")
    made = snapping()
    made.step(3)
    model, path = made.snapshot()
    state = caffe_pb2.SolverState()
    state.ParseFromString(Path(path).read_bytes())
    assert (state.iter, state.learned_net, state.current_step) == (3, model, 0)
    assert len(state.history) == len(made.history)
    for blob, array in zip(state.history, made.history, strict=True):
        assert tuple(blob.shape.dim) == array.shape
        np.testing.assert_array_equal(np.array(blob.data, np.float32), array.ravel())
    state.iter = 4
    Path(path).write_bytes(state.SerializeToString())
    again = read_state(path)
    assert again.iteration == 4 and again.resumption.type == "SGD"


def test_the_hdf5_form_is_caffes():
    h5py = pytest.importorskip("h5py")
    made = snapping("snapshot_format: HDF5")
    made.step(3)
    model, path = made.snapshot()
    assert model == "snap_iter_3.caffemodel.h5"
    with h5py.File(path) as file:
        for name, value in (("iter", 3), ("current_step", 0)):
            assert file[name].shape == (1,) and file[name].dtype == np.int32 and file[name][0] == value
        learned = file["learned_net"]
        assert learned.shape == () and h5py.check_string_dtype(learned.dtype).length == len(model) + 1
        assert learned[()] == model.encode()
        assert sorted(file["history"], key=int) == [str(i) for i in range(len(made.history))]
        for i, array in enumerate(made.history):
            np.testing.assert_array_equal(file["history"][str(i)], array)


@pytest.mark.parametrize("form", FORMATS)
def test_diffs_are_stored_on_request(form):
    model, _ = snapshot(f"snapshot_diff: true snapshot_format: {form}")
    if form == "HDF5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(model) as file:
            assert np.any(file["diff/ip2/0"])
    else:
        layers = {layer.name: layer for layer in binary.read(model).layer}
        assert np.any(layers["ip2"].blobs[0].diff) and layers["ip2"].blobs[0].diff.size == 24


def test_an_event_tells_of_it():
    made = snapping()
    events = recorded(made)
    made.snapshot()
    assert str(events[0]) == (
        "Snapshotting to binary proto file snap_iter_0.caffemodel\n"
        "Snapshotting solver state to binary proto file snap_iter_0.solverstate"
    )


@pytest.mark.parametrize("fails", ["caffemodel", "solverstate"])
def test_a_pair_is_written_whole_or_not_at_all(fails, monkeypatch):
    made = snapping()
    made.snapshot()
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    made.step(2)
    made._iteration = 0  # the same names again
    write = binary.write

    def full(path, message):
        if fails in str(path):
            Path(path).write_bytes(b"half")
            raise FileError(f"{path}: no space left")
        write(path, message)

    monkeypatch.setattr(binary, "write", full)
    with pytest.raises(FileError, match="no space left"):
        made.snapshot()
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


def test_h5py_is_asked_for_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ImportError, match=r'snapshot_format: HDF5 needs the package "h5py": pip install "caffebn\[data\]"'
    ):
        snapping("snapshot_format: HDF5 snapshot: 5")
    with pytest.raises(ImportError, match='a solver state in HDF5 form needs the package "h5py"'):
        snapping().restore("snap_iter_0.solverstate.h5")


# -- finding the weights -----------------------------------------------------------------------------


def moved(folder: str, *paths: str) -> str:
    os.mkdir(folder)
    for path in paths:
        os.rename(path, os.path.join(folder, path))
    return os.path.join(folder, paths[-1])


def test_a_pair_may_be_moved():
    path = moved("elsewhere", *snapshot())
    made = snapping()
    made.restore(path)
    assert made.iter == 2


def strip(path: str) -> None:
    """Make the state look like Caffe's."""
    state = binary.read(path, "SolverState")
    state.unknown.clear()
    content = binary.dump(state)
    Path(path).write_bytes(content)


def test_a_moved_pair_of_caffes_cannot_be_proven():
    model, path = snapshot()
    strip(path)
    path = moved("elsewhere", model, path)
    made = snapping()
    with pytest.warns(
        CaffebnWarning,
        match=r'its weights, "snap_iter_2.caffemodel", are not found from the current .*; took elsewhere/snap',
    ):
        made.restore(path)


def test_weights_that_are_nowhere():
    model, path = snapshot()
    os.remove(model)
    made = snapping()
    before = state_of(made)
    with pytest.raises(
        FileError, match=r'its weights, "snap_iter_2.caffemodel", are neither found from .* nor beside'
    ):
        made.restore(path)
    assert state_of(made) == before


def test_other_weights_of_the_same_name():
    model, path = snapshot()
    made = snapping()
    made.step(1)
    made.net.save(model)
    before = state_of(made)
    with pytest.raises(
        FormatError, match="snap_iter_2.caffemodel: not the weights that were written with snap_iter_2"
    ):
        made.restore(path)
    assert state_of(made) == before and made.iter == 1


def test_a_state_without_weights_leaves_the_net_alone():
    _, path = snapshot()
    state = binary.read(path, "SolverState")
    state.clear("learned_net")
    Path("bare.solverstate").write_bytes(binary.dump(state))
    made = snapping(random_seed="8")
    before = made.net.params["ip1"][0].data.copy()
    with pytest.warns(CaffebnWarning, match="bare.solverstate: names no weights"):
        made.restore("bare.solverstate")
    np.testing.assert_array_equal(made.net.params["ip1"][0].data, before)
    assert made.iter == 2 and np.any(made.history[0])


# -- states that do not fit ----------------------------------------------------------------------------


def test_the_state_of_another_net():
    _, path = snapshot()
    wider = NET.replace("num_output: 8", "num_output: 9")
    with pytest.raises(
        SolverError,
        match=r'history 0, that of layer "ip1" \(InnerProduct\), blob 0: expected 9x5, found 8x5: .* another net',
    ):
        solver(net=wider).restore(path)
    shorter = NET.replace("bias_term: true", "bias_term: false")
    with pytest.raises(
        SolverError,
        match='expected 8 blobs of history, as a "SGD" solver .* has, found 9: the state belongs to another net',
    ):
        solver(net=shorter).restore(path)


def test_the_state_of_another_solver():
    _, path = snapshot()
    with pytest.raises(
        SolverError, match="expected 18 blobs .*found 9: AdaDelta, Adam and Nadam keep two for each"
    ):
        solver('type: "Adam"').restore(path)
    made = solver('type: "Nesterov" momentum: 0.9')
    with pytest.warns(
        CaffebnWarning, match='written by a "SGD" solver and read by "Nesterov": the history may mean'
    ):
        made.restore(path)
    assert made.iter == 2


def test_weights_of_another_net():
    _, path = snapshot()
    made = solver(net=NET.replace('name: "ip2"', 'name: "other"'))
    before = state_of(made), seeding.get_state()
    with pytest.raises(WeightsError, match="not in the file, unchanged: other"):
        made.restore(path)
    assert (state_of(made), seeding.get_state()) == before


# -- files that are none -------------------------------------------------------------------------------


def test_a_caffemodel_is_no_state():
    model, _ = snapshot()
    with pytest.raises(
        FormatError,
        match="snap_iter_2.caffemodel: not a solver state, it says no iteration number; expected a .solver",
    ):
        snapping().restore(model)
    with pytest.raises(FileError, match="nothing.solverstate: cannot be read"):
        snapping().restore("nothing.solverstate")
    with pytest.raises(FileError, match=r"nothing.solverstate.h5: there is no such file"):
        snapping().restore("nothing.solverstate.h5")


def test_a_state_that_was_cut():
    _, path = snapshot()
    content = Path(path).read_bytes()
    made = snapping()
    before = state_of(made)
    for n in range(0, len(content), 97):
        Path(path).write_bytes(content[:n])
        with pytest.raises((FormatError, SolverError)):
            made.restore(path)
        assert state_of(made) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: b"{", "damaged: JSONDecodeError"),
        (lambda d: b"\xff", "damaged: UnicodeDecodeError"),
        (lambda d: b"5", "damaged: TypeError"),
        (lambda d: b"[" * 100000, "damaged: RecursionError"),
        (lambda d: {k: v for k, v in d.items() if k != "random"}, "damaged: KeyError: 'random'"),
        (lambda d: d | {"type": 5}, "values of the wrong kind"),
        (lambda d: d | {"random": None}, "values of the wrong kind"),
        (lambda d: d | {"layers": [{"data": 5}]}, "values of the wrong kind"),
        (lambda d: d | {"layers": [5]}, "values of the wrong kind"),
        (
            lambda d: d | {"random": {"bit_generator": "x"}},
            "solverstate.*: not a state of the random generator",
        ),
    ],
)
@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_addition(form, change, said):
    _, path = snapshot(f"snapshot_format: {form}")
    changed = change(json.loads(addition(path)))
    set_addition(path, changed if isinstance(changed, bytes) else json.dumps(changed).encode())
    made = snapping()
    before = state_of(made)
    with pytest.raises(caffebn.CaffebnError, match=said):
        made.restore(path)
    assert state_of(made) == before and made.iter == 0


def test_an_addition_of_a_later_version():
    _, path = snapshot()
    set_addition(path, json.dumps(json.loads(addition(path)) | {"more": 1}).encode())
    snapping().restore(path)


def addition(path: str) -> bytes:
    if path.endswith(".h5"):
        import h5py

        with h5py.File(path) as file:
            return file["caffebn"][()]
    (found,) = binary.read(path, "SolverState").unknown
    assert found.number == FIELD
    return found.data


def set_addition(path: str, content: bytes) -> None:
    if path.endswith(".h5"):
        import h5py

        with h5py.File(path, "r+") as file:
            del file["caffebn"]
            file["caffebn"] = np.array(content, f"S{len(content) + 1}")
        return
    state = binary.read(path, "SolverState")
    state.unknown[:] = [UnknownBinary(FIELD, 2, content)]
    Path(path).write_bytes(binary.dump(state))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda f: f.pop("iter"),
            'expected a data set "iter" and a group "history", found caffebn, current_step',
        ),
        (lambda f: f.pop("history"), 'expected a data set "iter" and a group "history"'),
        (
            lambda f: f["history"].pop("3"),
            "history: expected data sets 0 to 7 of real numbers, found 0, 1, 2, 4",
        ),
        (lambda f: f["history"].create_dataset("9", data=["a"]), "expected data sets 0 to 9 of real numbers"),
        (lambda f: f["history"].create_group("9"), "expected data sets 0 to 9 of real numbers"),
    ],
)
def test_damaged_hdf5(change, said):
    h5py = pytest.importorskip("h5py")
    _, path = snapshot("snapshot_format: HDF5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(FormatError, match=f"snap_iter_2.solverstate.h5: .*{said}"):
        snapping().restore(path)
    Path(path).write_bytes(b"not HDF5")
    with pytest.raises(FormatError, match="not an HDF5 file"):
        snapping().restore(path)


def test_the_old_form_of_shapes():
    """Caffe once wrote every shape as four numbers, aligned at the right."""
    made = snapping()
    made.step(2)
    expected = [array.copy() for array in made.history]
    _, path = made.snapshot()
    state = binary.read(path, "SolverState")
    for blob in state.history:
        dims = [1] * 4 + list(blob.shape.dim)
        blob.clear("shape")
        blob.num, blob.channels, blob.height, blob.width = dims[-4:]
    Path("old.solverstate").write_bytes(binary.dump(state))
    made = snapping()
    made.restore("old.solverstate")
    for found, value in zip(made.history, expected, strict=True):
        np.testing.assert_array_equal(found, value)


def test_a_net_reads_the_weights_of_a_snapshot():
    model, _ = snapshot()
    net = Net(text.parse(NET), "TEST", weights=model)
    assert net.params["bn"][2].data > 1


def test_in_another_process(python):
    """The bits do not depend on anything that lives in this process."""
    made = get_solver(message('snapshot_prefix: "snap" momentum: 0.9'))
    made.net.blobs["data"].data[...] = np.arange(30).reshape(6, 5) / 30
    made.step(3)
    _, path = made.snapshot()
    made.step(3)
    Path("s.prototxt").write_text(text.dump(message("momentum: 0.9", random_seed="99")))
    done = python(
        "import os, numpy as np, caffebn\n"
        f"os.chdir({os.getcwd()!r})\n"
        "made = caffebn.get_solver('s.prototxt')\n"
        f"made.restore({path!r})\n"
        "made.net.blobs['data'].data[...] = np.arange(30).reshape(6, 5) / 30\n"
        "made.step(3)\n"
        "print(made.iter, made.loss.hex(), made.net.parameters.data.flat.tobytes().hex())"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "6", made.loss.hex(), made.net.parameters.data.flat.tobytes().hex()
    ]  # fmt: skip
