"""Solver: pycaffe's interface, the order of an iteration, solve, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

import caffebn
from caffebn.errors import (
    ArgumentError,
    CaffebnWarning,
    DeviceError,
    FileError,
    NetError,
    ParseError,
    SolverError,
)
from caffebn.ops import threads
from caffebn.proto import text
from caffebn.solvers import Hook, Solver, get_solver
from caffebn.solvers.rules import RULES
from tests.solvers.small import NET, SETTINGS, message, recorded, solver, state_of, train

pytestmark = pytest.mark.usefixtures("here")

WITHOUT_DROPOUT = NET.replace('"Dropout"', '"ReLU"')


def write(name: str = "solver.prototxt", more: str = "", **settings: str) -> str:
    lines = [f"{k}: {v}" for k, v in (SETTINGS | settings).items()]
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "w") as f:
        f.write("\n".join([*lines, more]))
    with open(os.path.join(os.path.dirname(name), "net.prototxt"), "w") as f:
        f.write(NET)
    return name


# -- making ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", list(RULES))
def test_each_type_has_a_class_of_pycaffes_name(rule):
    path = write(more=f'net: "net.prototxt" type: "{rule}"')
    made = get_solver(path)
    assert type(made) is getattr(caffebn, f"{rule}Solver")
    assert made.type == rule and made.param.type == rule
    made = getattr(caffebn, f"{rule}Solver")(write(more='net: "net.prototxt"'))
    assert made.param.type == rule and isinstance(made, caffebn.Solver)


def test_what_pycaffe_scripts_look_at():
    made = caffebn.get_solver(write(more='net: "net.prototxt" test_iter: 2 test_interval: 5'))
    assert made.iter == 0
    assert made.param.max_iter == 10
    assert made.net.phase == "TRAIN"
    assert [net.phase for net in made.test_nets] == ["TEST"]
    assert "accuracy" in made.test_nets[0].blobs and "accuracy" not in made.net.blobs
    assert repr(made).startswith("<SGDSolver iteration 0 of <Net")
    with pytest.raises(AttributeError):
        made.iter = 5


def test_the_old_number_of_the_type():
    assert get_solver(message("solver_type: ADAGRAD")).type == "AdaGrad"
    with pytest.raises(NetError, match='type: "Adam" and the old solver_type: ADAGRAD are both given'):
        get_solver(message('solver_type: ADAGRAD type: "Adam"'))


def test_a_message_is_not_changed():
    p = message()
    before = p.copy()
    get_solver(p).step(1)
    assert p == before


def test_a_class_that_is_not_that_of_the_text_is_worth_a_word():
    with pytest.warns(CaffebnWarning, match='type: "Adam", but SGDSolver was asked for: it works by "SGD"'):
        made = caffebn.SGDSolver(message('type: "Adam"'))
    assert len(made.history) == len(made.net.parameters)


def test_gpu_in_the_text_is_worth_a_word(no_gpu):
    with pytest.warns(
        CaffebnWarning, match=r"solver.prototxt:5:1: solver_mode: GPU, but .* training runs on the CPU"
    ):
        made = get_solver(message("solver_mode: GPU"))
    assert made.net.device == "cpu"
    assert get_solver(message("solver_mode: GPU"), device="reference").net.device == "reference"
    get_solver(message("solver_mode: CPU"))
    get_solver(message())  # Caffe's default is GPU


@pytest.mark.gpu
def test_gpu_in_the_text_is_where_it_trains():
    assert get_solver(message("solver_mode: GPU")).net.device == "gpu"
    assert get_solver(message("solver_mode: GPU"), device="cpu").net.device == "cpu"
    with pytest.raises(DeviceError, match="there is no GPU 77"):
        get_solver(message("solver_mode: GPU device_id: 77"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('type: "adam"', '5:1: type: expected one of SGD, .*; found "adam"; did you mean "Adam"'),
        ("iter_size: 0", "5:1: iter_size: expected at least 1, found 0"),
        ("average_loss: 0", "average_loss: expected at least 1, found 0"),
        ('regularization_type: "l2"', '5:1: regularization_type: expected "L1" or "L2", found "l2"'),
        ("snapshot: 5", "snapshot_prefix is missing: it names the files of snapshots"),
    ],
)  # fmt: skip
def test_refusals(more, said):
    with pytest.raises(SolverError, match=said) as e:
        get_solver(message(more))
    assert e.value.where is not None


def test_other_refusals(tmp_path):
    with pytest.raises(ArgumentError, match=r"Solver is the base of all solvers: use get_solver\(\)"):
        Solver(message())
    with pytest.raises(
        ArgumentError, match="expected a SolverParameter or the path of one, found a NetParameter"
    ):
        get_solver(text.parse(NET))
    with pytest.raises(FileError, match="nothing.prototxt: cannot be read"):
        get_solver("nothing.prototxt")
    with pytest.raises(ParseError, match="momentun"):
        get_solver(text.parse("momentun: 1", "SolverParameter", strict=True))
    made = get_solver(message(max_iter=None))
    with pytest.raises(SolverError, match=r"max_iter is missing: solve\(\) trains up to that iteration"):
        made.solve()
    with pytest.raises(ArgumentError, match="step: expected a number of iterations, at least 0, found -1"):
        made.step(-1)
    with pytest.raises(ArgumentError, match="test: there are 0 test nets, found index 0"):
        made.test()


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("none/snap", 'there is no folder "none": make it, or change'),
        ("/proc/snap", 'folder "/proc" cannot be written'),
    ],
)
def test_a_folder_that_cannot_hold_snapshots_is_refused_before_training(prefix, said):
    with pytest.raises(FileError, match=f"solver.prototxt:5:1: snapshot_prefix: .*{said}"):
        get_solver(message(f'snapshot_prefix: "{prefix}" snapshot: 5'))
    made = solver(f'snapshot_prefix: "{prefix}"')
    made.step(1)
    with pytest.raises(FileError, match=said):
        made.solve()
    assert made.iter == 1
    solver(f'snapshot_prefix: "{prefix}" snapshot_after_train: false').solve()


# -- an iteration ------------------------------------------------------------------------------------


def test_the_order_of_an_iteration():
    made = solver("iter_size: 2 test_iter: 1 test_interval: 1 snapshot: 1 snapshot_prefix: 'snap' display: 1")
    seen = []
    blob = made.net.params["ip2"][0]

    def note(what: str) -> None:
        seen.append((what, made.iter, bool(blob.diff.any())))

    class Note(Hook):
        def before(self, solver: Solver) -> None:
            note("before")

        def after(self, solver: Solver) -> None:
            note("after")

    made.hooks.append(Note())
    made.listeners.append(lambda event: note(type(event).__name__))
    made.net.after_forward(lambda i: i or note("forward"))
    made.net.after_backward(lambda i: i or note("backward"))
    made.add_callback(lambda: note("start"), lambda: note("gradients"))
    made.step(2)
    for i in range(2):
        assert seen[i * 11 : i * 11 + 11] == [
            ("TestResult", i, False),
            ("before", i, False),
            ("start", i, False),
            ("forward", i, False),
            ("backward", i, True),
            ("forward", i, True),
            ("backward", i, True),
            ("gradients", i, True),
            ("Progress", i + 1, True),
            ("SnapshotWritten", i + 1, True),
            ("after", i + 1, True),
        ]
    assert len(seen) == 22


def test_the_diff_holds_the_update_afterwards():
    made = solver("weight_decay: 0.1 momentum: 0.5")
    before = made.net.parameters.data.flat.copy()
    statistics = np.concatenate([blob.data.ravel() for blob in made.net.params["bn"]])
    made.step(1)
    after, update = made.net.parameters.data.flat.copy(), made.net.parameters.diff.flat
    moved = np.concatenate([blob.data.ravel() for blob in made.net.params["bn"]]) != statistics
    assert moved.any()
    for p in made.net.parameters:
        if p.layer.type == "BatchNorm":
            assert not p.blob.diff.any()
            p.blob.data[...] = 0
    learned = made.net.parameters.data.flat != 0
    np.testing.assert_array_equal((before - update)[learned], after[learned])
    assert update.any()


def test_apply_update_is_the_last_part_of_an_iteration():
    one, other = (solver(momentum="0.9", net=WITHOUT_DROPOUT) for _ in range(2))
    one.step(1)
    other.net.clear_param_diffs()
    other.net.forward_backward()
    other.apply_update()
    assert other.iter == 1 and other.rate == one.rate
    assert state_of(other) == state_of(one)


def test_losses_are_averaged():
    made = solver("iter_size: 2 average_loss: 3", net=WITHOUT_DROPOUT)
    passes = []
    made.net.after_forward(lambda i: passes.append(made.net.loss) if i == len(made.net.layers) - 1 else None)
    shown = []
    made.listeners[:] = [lambda event: shown.append(event.loss)]
    made.param.display = 1
    made.step(6)
    losses = np.reshape(passes, (6, 2)).mean(axis=1)
    expected = [losses[max(0, i - 2) : i + 1].mean() for i in range(6)]
    np.testing.assert_allclose(shown, expected, rtol=1e-12)
    assert made.loss == shown[-1]
    made.step(1)
    assert made.loss == np.mean(passes[-2:])  # each call of step begins anew, as in Caffe


def test_rates_of_the_iteration_before_it_is_counted():
    made = solver(lr_policy='"step" gamma: 0.1 stepsize: 2', base_lr="1")
    rates = []
    for _ in range(5):
        made.step(1)
        rates.append(made.rate)
    np.testing.assert_allclose(rates, [1, 1, 0.1, 0.1, 0.01], rtol=1e-6)


def test_numbers_may_be_changed_while_training():
    made = solver()
    made.step(1)
    made.param.base_lr = 0
    before = made.net.params["ip1"][0].data.copy()
    made.step(1)
    np.testing.assert_array_equal(made.net.params["ip1"][0].data, before)


def test_shared_parameters_are_one():
    net = NET.replace('weight_filler { type: "xavier" } }', 'weight_filler { type: "xavier" } } ')
    net = net.replace("param { lr_mult: 1 }", 'param { name: "w" }')
    second = """layer { name: "again" type: "InnerProduct" bottom: "data" top: "ip1b" param { name: "w" }
                inner_product_param { num_output: 8 bias_term: false } }
                layer { name: "sum" type: "Eltwise" bottom: "ip1" bottom: "ip1b" top: "sum" }"""
    cut = net.index('layer { name: "ip2"')
    net = net[:cut] + second + net[cut:].replace('bottom: "ip1"', 'bottom: "sum"')
    made = solver("snapshot_prefix: 'snap'", net=net, momentum="0.9")
    assert len(made.net.parameters) == 10 and len(made.history) == 9
    made.step(3)
    a, b = made.net.params["ip1"][0], made.net.params["again"][0]
    assert a.shares_data_with(b)
    assert a.data.tobytes() == b.data.tobytes()
    for form in ("BINARYPROTO", "HDF5"):
        made.param.snapshot_format = form
        other = solver("snapshot_prefix: 'snap' momentum: 0.9", net=net, random_seed="9")
        other.restore(made.snapshot()[1])
        assert state_of(other) == state_of(made)


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_any_number_of_threads_gives_the_same_bits(rule, monkeypatch):
    monkeypatch.setattr(threads, "_SMALL", 0)
    monkeypatch.setattr(threads, "_count", None)
    found = []
    for n in (1, 2, 3):
        threads.set(n)
        made = solver(f'type: "{rule}" momentum: 0.9 clip_gradients: 0.5 weight_decay: 0.01')
        found.append((train(made, 5), state_of(made)))
    assert found[0] == found[1] == found[2]


def test_the_seed_decides_all():
    found = []
    for seed in ("3", "3", "4"):
        made = solver(momentum="0.9", random_seed=seed)
        found.append((state_of(made), train(made, 3), state_of(made)))
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(found[0], found[2], strict=True))


def test_a_loss_falls():
    made = get_solver(message("momentum: 0.9", net=WITHOUT_DROPOUT))
    rng = np.random.default_rng(0)
    made.net.blobs["data"].data[...] = rng.normal(size=(6, 5))
    made.net.blobs["label"].data[...] = [0, 1, 2, 0, 1, 2]
    made.step(1)
    first = made.loss
    made.step(60)
    assert made.loss < 0.1 < first


# -- solve -------------------------------------------------------------------------------------------


def test_solve_trains_to_max_iter_and_shows_the_end():
    made = solver("display: 5 test_iter: 1 test_interval: 5 snapshot_prefix: 'snap'")
    events = recorded(made)
    made.solve()
    assert made.iter == 10
    shown = [(type(event).__name__, event.iteration) for event in events]
    assert shown == [
        ("TestResult", 0), ("Progress", 0), ("TestResult", 5), ("Progress", 5),
        ("SnapshotWritten", 10), ("Progress", 10), ("TestResult", 10),
    ]  # fmt: skip
    assert events[-2].rate is None and str(events[-2]) == f"Iteration 10, loss = {events[-2].loss:g}"
    assert sorted(os.listdir()) == ["snap_iter_10.caffemodel", "snap_iter_10.solverstate"]


def test_solve_does_not_write_twice_or_when_told_not_to():
    solver("snapshot: 5 snapshot_prefix: 'a'").solve()
    solver("snapshot: 4 snapshot_prefix: 'b'").solve()
    solver("snapshot_after_train: false snapshot_prefix: 'c'").solve()
    written = sorted(name for name in os.listdir() if name.endswith("model"))
    assert written == [
        f"{s}.caffemodel" for s in ("a_iter_10", "a_iter_5", "b_iter_10", "b_iter_4", "b_iter_8")
    ]


def test_solve_resumes():
    solver("snapshot: 5 snapshot_prefix: 'snap'", max_iter="5").solve()
    made = solver("snapshot_prefix: 'snap'")
    made.solve("snap_iter_5.solverstate")
    assert made.iter == 10
    made.solve()
    assert made.iter == 10


def test_stop_ends_training_after_the_iteration_with_a_snapshot():
    made = solver("display: 1 snapshot_prefix: 'snap' test_iter: 1 test_interval: 100")
    events = recorded(made)
    made.add_callback(lambda: None, lambda: made.stop() if made.iter == 3 else None)
    made.solve()
    assert made.iter == 4
    assert [type(e).__name__ for e in events[-2:]] == ["Progress", "SnapshotWritten"]
    made.step(2)
    assert made.iter == 6


# -- numbers that are none -----------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_training():
    made = solver()
    made.step(2)
    before = made.history[0].copy()
    made.net.before_forward(lambda i: made.net.blobs["data"].data.fill(np.nan) if i == 0 else None)
    with pytest.raises(
        SolverError,
        match=r'iteration 2: the loss is nan; it first appears in "data", made by layer "data" \(Input\)$',
    ):
        made.step(5)
    assert made.iter == 2
    np.testing.assert_array_equal(made.history[0], before)


def test_a_rate_that_is_too_large_is_named():
    made = solver(base_lr="1e30", net=NET.replace('"SoftmaxWithLoss"', '"SoftmaxWithLoss" loss_weight: 1e20'))
    with pytest.raises(
        SolverError, match=r'the parameters of layer "\w+" \(\w+\), blob \d, are no longer finite'
    ):
        made.step(20)


def test_a_batch_of_one_is_worth_a_word():
    made = solver(net=NET.replace("dim: 6", "dim: 1"))
    with pytest.warns(
        CaffebnWarning, match=r'1 BatchNorm layers \("bn"\) take their statistics from a batch of one'
    ):
        made.step(1)
    made.step(1)  # once is enough
    frozen = NET.replace("dim: 6", "dim: 1").replace(
        '"BatchNorm"', '"BatchNorm" batch_norm_param { use_global_stats: true }'
    )
    solver(net=frozen).step(1)


# -- debug_info ----------------------------------------------------------------------------------------


def test_debug_info_of_iterations_that_are_displayed(capfd):
    made = solver("debug_info: true display: 2")
    norms = []
    made.add_callback(lambda: None, lambda: norms.append(np.abs(made.net.params["ip2"][0].diff).mean()))
    for shown in (True, False, True):
        made.step(1)
        lines = capfd.readouterr().err.splitlines()
        assert bool(lines) == shown
        if shown:
            (line,) = [line for line in lines if "[Backward] Layer ip2, param blob 0 diff" in line]
            assert float(line.rsplit(" ", 1)[1]) == pytest.approx(norms[-1], rel=1e-5)
            assert sum("[Forward] Layer ip2, top blob ip2 data" in line for line in lines) == 1


def test_debug_info_of_test_nets(capfd):
    solver("debug_info: true test_iter: 2 test_interval: 1").step(1)
    lines = capfd.readouterr().err.splitlines()
    assert sum("[Forward] Layer accuracy, top blob accuracy data" in line for line in lines) == 2
    assert not any("Backward" in line for line in lines)
    solver("test_iter: 2 test_interval: 1 display: 1").step(1)
    assert capfd.readouterr().err == ""
