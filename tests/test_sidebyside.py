"""What the speed table is made of: turns, medians, ratios, verdicts, tables and the marks in the pages."""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType

import numpy as np
import pytest

import caffebn


@pytest.fixture
def bench(checkout, monkeypatch):
    """A function that imports a module of asv_bench."""
    monkeypatch.syspath_prepend(checkout / "asv_bench")

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in ("sidebyside", "twins", "peers", "growth"):
        sys.modules.pop(name, None)


@pytest.fixture
def side(bench):
    return bench("sidebyside")


class Clock:
    """Time that passes only when a side runs."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def side(self, name, *seconds):
        """A side whose runs take these times in turn."""
        runs = iter(range(10**9))

        def run():
            self.order.append(name)
            self.now += seconds[next(runs) % len(seconds)]

        return run


def test_sides_take_turns_and_the_first_run_of_each_is_not_timed(side):
    clock = Clock()
    # two runs to warm up, one to see how long it takes; then in each turn one that is not timed and one that is
    slow = clock.side("a", 9, 9, 0.1, 9, 0.1, 9, 0.2, 9, 0.3)
    taken = side.alternate({"a": slow, "b": clock.side("b", 0.25)}, 3, clock)
    assert taken == {"a": pytest.approx([0.1, 0.2, 0.3]), "b": pytest.approx([0.25, 0.25, 0.25])}
    assert "".join(clock.order) == "aaabbb" + "aabb" * 3


def test_short_runs_are_repeated_in_a_turn(side):
    clock = Clock()
    taken = side.alternate({"a": clock.side("a", side.TURN_SECONDS / 10)}, 2, clock)
    assert taken["a"] == pytest.approx([side.TURN_SECONDS / 10] * 2)
    assert len(clock.order) == 3 + 2 * 11


def test_long_runs_get_fewer_turns_and_no_run_before_each(side):
    clock = Clock()
    taken = side.alternate({"a": clock.side("a", 1.0), "b": clock.side("b", 3.0)}, 15, clock)
    assert taken == {"a": [1] * 10, "b": [3] * 10}, "40 seconds"
    assert "".join(clock.order) == "aaabbb" + "ab" * 10
    assert len(side.alternate({"a": clock.side("a", 100.0)}, 15, clock)["a"]) == 5


@pytest.fixture
def turns(monkeypatch, side):
    """Make `alternate` return these times, in seconds, in the order of the sides."""

    def give(*samples):
        def fake(sides, rounds):
            return dict(zip(sides, samples, strict=True))

        monkeypatch.setattr(side, "alternate", fake)

    return give


def run():
    raise AssertionError("not timed in this test")


def test_ratios_are_of_medians_and_the_fastest_variant_counts(side, turns):
    turns([0.002, 0.004, 0.003], [0.010, 0.012, 0.011], [0.006, 0.006, 0.9])
    case = side.Case("batch 1", run, {"other": {"slow": run, "fast": run}})
    (r,) = side.compare("row", "work", {"other": side.Goal(1, 0.5)}, case, 3, "2020-01-02")
    assert (r.ours, r.theirs, r.variant, r.ratio) == (3, 6, "fast", 0.5)
    assert (r.must, r.aim, r.verdict, r.unit, r.date) == (1, 0.5, "aim", "ms", "2020-01-02")


def test_times_are_of_one_run_of_several(side, turns):
    turns([0.02], [0.04])
    (r,) = side.compare("row", "work", {}, side.Case("", run, {"other": {"": run}}, per=20), 1, "")
    assert (r.ours, r.theirs) == (1, 2)
    assert r.verdict == "-", "no goal"


def test_numbers_that_were_measured_already(side, turns):
    turns()
    case = side.Case("", 300.0, {"other": {"": 400.0}}, unit="MB")
    (r,) = side.compare("row", "work", {"other": side.Goal(1, 0.5)}, case, 1, "")
    assert (r.ours, r.theirs, r.ratio, r.spread, r.verdict) == (300, 400, 0.75, None, "must")


def test_a_missing_peer_is_named(side, turns):
    turns([1.0])
    case = side.Case("batch 1", run, {"other": side.Missing("not installed: pip install other")})
    (r,) = side.compare("row", "work", {"other": side.Goal(1, 0.5)}, case, 1, "")
    assert (r.ours, r.theirs, r.ratio, r.verdict) == (1000, None, None, "-")
    assert r.note == "not installed: pip install other"
    assert "| 1000 ms | not installed: pip install other |" in side.markdown([r])
    assert "not installed: pip install other" in side.summary([r])


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.5, "aim"), (0.51, "must"), (1.0, "must"), (1.01, "missed")]
)
def test_verdicts(side, ratio, verdict):
    r = side.Result("row", "work", "case", "peer", ours=ratio, theirs=1.0, must=1.0, aim=0.5)
    assert r.verdict == verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234.5, "1234"), (99.96, "100")],
)
def test_numbers(side, value, text):
    assert side.number(value) == text


@pytest.mark.parametrize(
    ("bound", "text"), [(None, ""), (1 / 6, "0.17"), (1.15, "1.15"), (0.5, "0.5"), (1.0, "1")]
)
def test_goals(side, bound, text):
    assert side.at_most(bound) == text


def results(side):
    def result(case, ours, theirs, peer="other"):
        return side.Result(
            "row", "work | more", case, peer, "ms", ours, theirs, None, 1.0, 0.5, "v", "", "2020-01-02"
        )

    return [
        result("a", 1.0, 4.0),
        result("b", 3.0, 4.0),
        side.Result("row", "work | more", "b", "absent", note="not installed"),
        result("c", 2.0, 1.0, "fast"),
    ]


def test_the_table_of_all_cases(side):
    assert side.markdown(results(side)).splitlines()[2:] == [
        "| work / more | a | other (v) | 1 ms | 4 ms | 0.25 | 1 | 0.5 | yes, the aim too |",
        "|  | b | other (v) | 3 ms | 4 ms | 0.75 | 1 | 0.5 | yes |",
        "|  | b | absent |  | not installed |  |  |  |  |",
        "|  | c | fast (v) | 2 ms | 1 ms | 2.00 | 1 | 0.5 | **no** |",
    ]


def test_the_short_table_is_decided_by_the_worst_case(side):
    assert side.summary(results(side)).splitlines()[2:] == [
        "| work / more | other | 0.25 - 0.75 | 1 | 0.5 | yes |",
        "|  | absent | not installed |  |  |  |",
        "|  | fast | 2.00 | 1 | 0.5 | **no** |",
    ]


def test_marks(side):
    text = "a\n<!-- speed -->\nold\n<!-- /speed -->\nb\n"
    new = side.replace_between(text, "speed", "\nnew | table\n")
    assert new == "a\n<!-- speed -->\nnew | table\n<!-- /speed -->\nb\n"
    assert side.replace_between(new, "speed", "new | table") == new


@pytest.mark.parametrize(
    "text",
    ["", "<!-- speed -->", "<!-- /speed --><!-- speed -->", "<!-- speed --><!-- speed --><!-- /speed -->"],
)
def test_marks_that_are_not_there(side, text):
    with pytest.raises(ValueError, match="expected <!-- speed --> and behind it <!-- /speed -->, once each"):
        side.replace_between(text, "speed", "new")


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_the_pages_have_the_marks(side, checkout, page):
    side.replace_between((checkout / page).read_text(), "speed", "new")


HERE = {"processor": "p", "cores": 2, "threads": 2}


def test_rows_measured_anew_replace_their_own(side, tmp_path):
    file = tmp_path / "folder" / "peers.json"
    first = results(side)
    other = side.Result("second", "work", "a", "other", "ms", 1.0, 2.0)
    side.save(file, HERE, side.merged(file, HERE, [*first, other]))
    anew = side.Result("row", "work", "a", "other", "ms", 7.0, 14.0)
    side.save(file, HERE, side.merged(file, HERE, [anew]))
    here, found = side.load(file)
    assert here == HERE
    assert found == [other, anew]
    assert json.loads(file.read_text())["results"][1]["ratio"] == 0.5


def test_times_of_two_machines_do_not_mix(side, tmp_path):
    file = tmp_path / "peers.json"
    side.save(file, HERE, [])
    with pytest.raises(
        ValueError, match=r"peers.json: measured with threads 2, here it is 4: give another file"
    ):
        side.merged(file, HERE | {"threads": 4}, [])


def test_the_machine(side, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    here = side.machine(["numpy", "no-such-package"], threads=3)
    assert here["packages"] == {"numpy": np.__version__, "no-such-package": None}
    assert here["threads"] == 3
    assert here["environment"]["OMP_WAIT_POLICY"] == "passive"
    assert here["processor"] and here["cores"] >= 1


# -- the same net in other runtimes --------------------------------------------------------------------

NET = """
name: "twin"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 15 dim: 15 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 bias_term: false
                            weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "dw" type: "Convolution" bottom: "pool" top: "dw"
        convolution_param { num_output: 8 group: 8 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "dw_bn" type: "BatchNorm" bottom: "dw" top: "dw" }
layer { name: "sum" type: "Eltwise" bottom: "pool" bottom: "dw" top: "sum" }
layer { name: "sum_relu" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "average" type: "Pooling" bottom: "sum" top: "average" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "average" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
END = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }'
LOSS = """
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.fixture
def net():
    caffebn.set_random_seed(3)
    made = caffebn.Net.from_text(NET + END, caffebn.TEST)
    rng = np.random.default_rng(3)
    for name in ("bn", "dw_bn"):
        for blob, value in zip(made.params[name], (rng.normal(size=8), rng.uniform(1, 9, 8), 4), strict=True):
            blob.data[...] = value
    for blob in made.params["scale"]:
        blob.data[...] = rng.normal(size=8)
    return made


@pytest.fixture
def x():
    return np.random.default_rng(4).normal(size=(2, 3, 15, 15)).astype("f")


def test_in_pytorch(bench, net, x):
    torch = pytest.importorskip("torch")
    twin = bench("twins").torch_net(net).eval()
    with torch.inference_mode():
        found = twin(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, net.forward(data=x)["prob"], rtol=1e-4, atol=1e-6)


def test_a_training_in_pytorch(bench, x):
    pytest.importorskip("torch")
    caffebn.set_random_seed(3)
    p = caffebn.proto.text.parse(
        'base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01', "SolverParameter"
    )
    p.net_param = caffebn.proto.text.parse(NET + LOSS, "NetParameter")
    solver = caffebn.get_solver(p)
    label = np.array([1, 4])
    solver.net.blobs["data"].data[...], solver.net.blobs["label"].data[...] = x, label
    step = bench("twins").torch_trainer(solver.net, x, label, rate=0.1, momentum=0.9, decay=0.01)
    for _ in range(4):
        solver.step(1)
        assert float(step()) == pytest.approx(solver.net.loss, rel=1e-3)


def test_in_onnx_runtime(bench, net, x):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    found = bench("twins").onnx_session(net, 1)(x)
    np.testing.assert_allclose(found, net.forward(data=x)["prob"], rtol=1e-4, atol=1e-6)


def test_in_opencv(bench, net, x, tmp_path):
    pytest.importorskip("cv2")
    found = bench("twins").opencv_net(net, NET + END, tmp_path, 1)(x)
    np.testing.assert_allclose(found, net.forward(data=x)["prob"], rtol=1e-4, atol=1e-6)


def test_other_layers_are_refused(bench):
    net = caffebn.Net.from_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
        'layer { name: "e" type: "ELU" bottom: "x" top: "y" }',
        caffebn.TEST,
    )
    with pytest.raises(NotImplementedError, match=r'layer "e" \(ELU\)'):
        bench("twins").steps(net)


# -- the command -----------------------------------------------------------------------------------


def test_outputs_that_differ_are_not_timed(bench):
    same = bench("peers").same
    same("peer", np.ones(3), np.ones(3) * 1.001)
    for found in (np.ones(3) * 1.1, np.ones(2), np.full(3, np.nan)):
        with pytest.raises(Exception, match="peer: "):
            same("peer", np.ones(3), found)


def test_a_row_that_does_not_exist(bench):
    from click.testing import CliRunner

    done = CliRunner().invoke(bench("peers").main, ["--rows", "nothing"])
    assert done.exit_code == 2
    assert "no row is called like 'nothing'; there are bn-forward, bn-backward" in done.output


def test_what_was_measured_is_shown_and_published(bench, tmp_path, monkeypatch):
    from click.testing import CliRunner

    peers, side = bench("peers"), bench("sidebyside")
    here = side.machine(["numpy", "torch"], threads=2, level="v4", keeps_memory=True)
    file = tmp_path / "asv_bench" / "peers.json"
    side.save(file, here, results(side))
    monkeypatch.setattr(peers, "HERE", tmp_path / "asv_bench")
    for name in ("README.md", "docs/performance.md"):
        page = tmp_path / name
        page.parent.mkdir(exist_ok=True)
        page.write_text("before\n<!-- speed -->\n<!-- /speed -->\nafter\n")
    done = CliRunner().invoke(peers.main, ["--from", "--publish", "--out", str(file)])
    assert done.exit_code == 0, done.output
    assert "0.25" in done.output and "missed" in done.output
    readme, page = ((tmp_path / name).read_text() for name in ("README.md", "docs/performance.md"))
    assert "| work / more | other | 0.25 - 0.75 | 1 | 0.5 | yes |" in readme
    assert "|  | b | other (v) | 3 ms | 4 ms | 0.75 | 1 | 0.5 | yes |" in page
    assert "2020-01-02, caffebn" in readme and readme.endswith("<!-- /speed -->\nafter\n")


# -- growth ----------------------------------------------------------------------------------------


def test_floors(bench):
    growth = bench("growth")
    rate = growth.Rates(macs=1000, bytes=100)
    line = growth.Line("inference")
    line.add(1, 5.0, macs=2000, bytes=100)
    line.add(2, 9.0, macs=4000, bytes=150)
    assert growth.floors(line, rate) == {"arithmetic": [2, 4], "memory": [1, 1.5]}
    line = growth.Line("making")
    line.add(20, 3.0)
    line.add(60, 10.0)
    assert growth.floors(line, rate) == {"in proportion": [3, 9]}


def test_the_cost_of_a_net(bench):
    net = caffebn.Net.from_text(
        """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 10 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
                inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
        layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
        """,
        caffebn.TEST,
    )
    macs, size = bench("growth").cost(net)
    assert macs == 2 * 10 * 4
    assert size == 4 * (2 * (2 * 10 + 2 * 4) + 10 * 4 + 4)


def test_a_plot(bench, tmp_path):
    pytest.importorskip("matplotlib")
    growth = bench("growth")
    line = growth.Line("inference")
    for x in (1, 2):
        line.add(x, x / 10, macs=x, bytes=x)
    made = growth.Plot("batch", "Over the batch", "images", [line])
    for name in ("a.svg", "b.svg"):
        growth.draw(made, growth.Rates(100, 100), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    here = {"date": "2020-01-02", "commit": "abc", "level": "v4", "processor": "p", "threads": 2}
    text = growth.page([made], growth.Rates(50e9, 10e9), here, "images")
    assert "100 billion operations" in text and "10.0 GB" in text
    assert text.endswith("![Over the batch](images/growth-batch.svg)")


def test_a_plot_that_does_not_exist(bench):
    from click.testing import CliRunner

    done = CliRunner().invoke(bench("growth").main, ["--plots", "batch,width"])
    assert done.exit_code == 2
    assert "no plot is called width; there are batch, size" in done.output
