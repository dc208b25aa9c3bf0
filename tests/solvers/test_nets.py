"""Which nets a solver makes: one train net, any number of test nets, states, weights, and where files are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffebn.errors import CaffebnWarning, FileError, SolverError, WeightsError
from caffebn.net import Net
from caffebn.proto import text
from caffebn.solvers import get_solver
from tests.solvers.small import NET, message, solver

pytestmark = pytest.mark.usefixtures("here")

STAGED = """
layer {{ name: "data" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "{top}" inner_product_param {{ num_output: 2 }} }}
layer {{ name: "train" type: "ReLU" bottom: "{top}" top: "a" include {{ phase: TRAIN }} }}
layer {{ name: "test" type: "ReLU" bottom: "{top}" top: "b" include {{ phase: TEST }} }}
layer {{ name: "stage" type: "ReLU" bottom: "{top}" top: "c" include {{ stage: "extra" }} }}
layer {{ name: "level" type: "ReLU" bottom: "{top}" top: "d" include {{ min_level: 2 }} }}
"""


def staged(top: str = "y") -> str:
    return STAGED.format(top=top)


def names(net: Net) -> str:
    """The layers that a state decides on."""
    return " ".join(n for n in net.layer_dict if n in ("train", "test", "stage", "level"))


@pytest.mark.parametrize("field", ["net", "train_net"])
def test_the_train_net_of_a_file(field):
    Path("n.prototxt").write_text(staged())
    made = get_solver(message(f'{field}: "n.prototxt"', net=None))
    assert names(made.net) == "train" and made.test_nets == []


@pytest.mark.parametrize("field", ["net_param", "train_net_param"])
def test_the_train_net_of_a_message(field):
    assert names(get_solver(message(f"{field} {{ {staged()} }}", net=None)).net) == "train"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "",
            r"solver.prototxt:1:1: expected one train net, in one of the fields net, net_param, .*; found none",
        ),
        ('net: "a" train_net: "b"', r"5:10: expected one train net.*; found net, train_net"),
    ],
)
def test_not_one_train_net(more, said):
    with pytest.raises(SolverError, match=said):
        get_solver(message(more, net=None))


def test_states_override_each_other():
    """The phase's own, then the net's text, then the solver's; stages add up."""
    net = 'state { stage: "extra" level: 1 } ' + staged()
    assert names(solver(net=net).net) == "train stage"
    assert names(solver("train_state { level: 2 }", net=net).net) == "train stage level"
    assert names(solver("train_state { phase: TEST }", net=staged()).net) == "test"
    made = solver('test_iter: 1 test_interval: 1 test_state { stage: "extra" }', net=staged())
    assert names(made.test_nets[0]) == "test stage"
    assert (
        names(solver("test_iter: 1 test_interval: 1", net="state { phase: TRAIN } " + staged()).test_nets[0])
        == "train"
    )


def test_the_order_of_test_nets():
    """First those of test_net_param, then those of test_net, then as many of the general net as test_iter has left."""
    Path("n.prototxt").write_text(staged("file"))
    made = get_solver(
        message(
            f'test_interval: 1 test_iter: [1, 2, 3, 4] test_net: "n.prototxt" test_net_param {{ {staged("message")} }} '
            'test_state {} test_state {} test_state { level: 2 } test_state { stage: "extra" }',
            net=staged("general"),
        )
    )
    tops = [n.top_names["fc"][0] for n in made.test_nets]
    assert tops == ["message", "file", "general", "general"]
    assert [names(n) for n in made.test_nets] == ["test", "test", "test level", "test stage"]


def test_test_nets_look_at_the_parameters_of_the_train_net():
    made = solver("test_iter: 1 test_iter: 1 test_interval: 1")
    for net in made.test_nets:
        for p, twin in zip(net.parameters, made.net.parameters, strict=True):
            assert p.blob.shares_data_with(twin.blob)
    made.step(3)
    assert made.test_nets[1].params["bn"][2].data == made.net.params["bn"][2].data > 2


@pytest.mark.parametrize(
    ("more", "net", "said"),
    [
        ('train_net: "n" test_net: "n"', None, "test_iter: expected one for each of the 1 test nets, found 0"),
        ('train_net: "n" test_net: "n" test_iter: 1 test_iter: 1', None, "expected one for each of the 1 .*found 2"),
        ('net: "n" test_net: "n" test_net: "n" test_iter: 1', None, "for each of the 2 test nets, found 1"),
        ("test_iter: 1", NET, "5:1: test_interval is missing: with test_iter it says after how many iterations"),
        ("test_iter: 1 test_interval: 0", NET, "5:14: test_interval is missing"),
        ("test_interval: 1 test_iter: 2 test_iter: 0", NET, "5:31: test_iter: expected at least 1, found 0"),
        (
            "test_interval: 1 test_iter: [1, 1] test_state { }", NET,
            "test_state: expected one for each of the 2 test nets .* or none, found 1",
        ),
    ],
)  # fmt: skip
def test_numbers_that_do_not_go_together(more, net, said):
    Path("n").write_text(staged())
    with pytest.raises(SolverError, match=said):
        get_solver(message(more, net=net))


def test_an_interval_without_tests_is_worth_a_word():
    with pytest.warns(
        CaffebnWarning, match="solver.prototxt:5:1: test_interval without test_iter: nothing is tested"
    ):
        get_solver(message("test_interval: 5"))


def test_a_test_net_with_other_parameters():
    other = staged().replace("num_output: 2", "num_output: 5")
    with pytest.raises(WeightsError, match='share_with: layer "fc"'):
        get_solver(message(f"test_net_param {{ {other} }} test_iter: 1 test_interval: 1", net=staged()))


# -- weights to start from -----------------------------------------------------------------------------


def test_weights_of_several_files():
    source = Net.from_text(staged(), "TRAIN")
    for name, value in (("a", 1), ("b", 2), ("c", 3)):
        source.params["fc"][0].data[...] = value
        source.save(f"{name}.caffemodel")
    for given, value in (
        ('"a.caffemodel"', 1),
        ('"a.caffemodel,b.caffemodel"', 2),
        ('"b.caffemodel" weights: " c.caffemodel "', 3),
    ):
        made = solver(f"test_iter: 1 test_interval: 1 weights: {given}", net=staged())
        for net in (made.net, *made.test_nets):
            np.testing.assert_array_equal(net.params["fc"][0].data, value)


def test_weights_reach_layers_that_only_a_test_net_has():
    extra = 'layer { name: "more" type: "InnerProduct" bottom: "b" top: "m" inner_product_param { num_output: 1 } }'
    source = Net.from_text(staged() + extra, "TEST")
    source.params["more"][0].data[...] = 7
    source.save("w.caffemodel")
    made = solver(
        f'test_iter: 1 test_interval: 1 weights: "w.caffemodel" test_net_param {{ {staged() + extra} }}',
        net=staged(),
    )
    np.testing.assert_array_equal(made.test_nets[0].params["more"][0].data, 7)


# -- where files are -----------------------------------------------------------------------------------


def put(folder: str) -> Path:
    Path(folder).mkdir()
    Path(folder, "net.prototxt").write_text(staged())
    path = Path(folder, "solver.prototxt")
    path.write_text('base_lr: 1 lr_policy: "fixed"\nnet: "net.prototxt"')
    return path


def test_files_are_found_from_the_current_directory_first():
    path = put("here")
    Path("net.prototxt").write_text(staged("elsewhere"))
    assert get_solver(path).net.top_names["fc"] == ["elsewhere"]


def test_files_beside_the_solver_are_found_with_a_word():
    path = put("here")
    with pytest.warns(
        CaffebnWarning,
        match=r'here/solver.prototxt:2:1: net: "net.prototxt" is not in the current directory, .*; took here/net.proto',
    ):
        made = get_solver(path)
    assert made.net.top_names["fc"] == ["y"]


def test_files_that_are_nowhere():
    path = put("here")
    Path("here/net.prototxt").unlink()
    with pytest.raises(
        FileError,
        match=r'solver.prototxt:2:1: net: there is no file "net.prototxt" in .*, nor beside the solver\'s text',
    ):
        get_solver(path)
    with pytest.raises(FileError, match=r'weights: there is no file "w" in the current directory, \S+$'):
        get_solver(message('weights: "w"'))
    with pytest.raises(FileError, match='5:31: test_net: there is no file "t"'):
        get_solver(message('test_iter: 1 test_interval: 1 test_net: "t"'))


def test_the_prefix_of_snapshots_is_completed_as_caffe_does():
    """The name of the solver where there is none, in the folder where there is only that."""
    path = put("here")
    Path("net.prototxt").write_text(staged())
    made = get_solver(path)
    assert made.snapshot() == ("here/solver_iter_0.caffemodel", "here/solver_iter_0.solverstate")
    Path("out").mkdir()
    path.write_text(path.read_text() + ' snapshot_prefix: "out"')
    assert get_solver(path).snapshot()[0] == "out/solver_iter_0.caffemodel"
    path.write_text(path.read_text().replace('"out"', '"out/a"'))
    assert get_solver(path).snapshot()[0] == "out/a_iter_0.caffemodel"
    with pytest.raises(SolverError, match="snapshot_prefix is missing"):
        get_solver(
            text.parse(path.read_text().replace('snapshot_prefix: "out/a"', ""), "SolverParameter")
        ).snapshot()


def test_a_net_with_blocks(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } } }'
        'block { type: "ConvBnRelu" name: "c" bottom: "x" num_output: 4 kernel_size: 3 }'
        'layer { name: "loss" type: "Reduction" bottom: "c" top: "loss" loss_weight: 1 }'
    )
    p = text.parse(f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed"', "SolverParameter")
    made = get_solver(p)
    made.step(1)
    assert "BatchNorm" in {layer.type for layer in made.net.layers}
