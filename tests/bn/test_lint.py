"""Each rule of lint: a case in which it fires, and one in which it is silent."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import caffebn
from caffebn import blocks
from caffebn.bn import lint
from caffebn.bn.rules import RULES
from caffebn.errors import ArgumentError, FileError
from caffebn.export import arrays
from caffebn.proto import Message, binary, make_blob

SCALE = 'layer { name: "sc" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }'
BN = 'layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }'
TRAIN = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 32 dim: 3 dim: 8 dim: 8 } shape { dim: 32 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "sc" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "sc" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 2 } }
"""
GOOD = {
    "c": ("Convolution", [np.ones((4, 3, 3, 3))]),
    "bn": ("BatchNorm", [np.ones(4), np.full(4, 900.0), np.array([999.0])]),
    "sc": ("Scale", [np.ones(4), np.ones(4)]),
    "fc": ("InnerProduct", [np.ones((2, 144)), np.ones(2)]),
}


def with_bn(text, param="", extra=""):
    new = BN.replace(" }", f" {extra} batch_norm_param {{ {param} }} }}")
    assert text.count(BN) == 1
    return text.replace(BN, new)


@pytest.fixture
def files(tmp_path):
    """Write texts and weights, and give the arguments of lint."""

    def write(train=TRAIN, deploy=DEPLOY, weights=None, solver=None):
        nets = []
        for name, text in (("train.prototxt", train), ("deploy.prototxt", deploy)):
            if text is not None:
                (tmp_path / name).write_text(text)
                nets.append(str(tmp_path / name))
        options = {}
        if weights is not None:
            net = Message("NetParameter")
            for name, (kind, arrays) in weights.items():
                spec = net.add("layer", name=name, type=kind)
                spec.blobs = [make_blob(np.asarray(a, np.float32)) for a in arrays]
            binary.write(tmp_path / "w.caffemodel", net)
            options["weights"] = str(tmp_path / "w.caffemodel")
        if solver is not None:
            (tmp_path / "solver.prototxt").write_text(solver)
            options["solver"] = str(tmp_path / "solver.prototxt")
        return nets, options

    return write


def codes(files, *args, **kwargs):
    nets, options = files(*args, **kwargs)
    return [f.code for f in lint(nets, **options).findings]


def changed(weights=None, **layers):
    """The good weights with some blobs changed: a function of the layer's list of arrays."""
    made = {name: (kind, [a.copy() for a in arrays]) for name, (kind, arrays) in (weights or GOOD).items()}
    for name, function in layers.items():
        made[name] = (made[name][0], function(*made[name][1]))
    return made


def test_all_rules_are_silent_on_good_nets(files):
    solver = 'net: "train.prototxt" base_lr: 0.1'
    assert codes(files, weights=GOOD, solver=solver) == []


CASES = {
    "BN001": dict(deploy=DEPLOY.replace('bottom: "data" top: "c"', 'bottom: "date" top: "c"')),
    "BN101": dict(deploy=with_bn(DEPLOY, "use_global_stats: false")),
    "BN102": dict(train=with_bn(TRAIN, "use_global_stats: true")),
    "BN103": dict(deploy=DEPLOY.replace('name: "bn"', 'name: "bn_1"').replace(
        'layer { name: "sc"', 'layer { name: "bn2" type: "BatchNorm" bottom: "c" top: "c" }\nlayer { name: "sc"'),
        train=TRAIN.replace('layer { name: "sc"', 'layer { name: "bn2" type: "BatchNorm" bottom: "c" top: "c" }\n'
                            'layer { name: "sc"')),
    "BN104": dict(deploy=with_bn(DEPLOY, "eps: 0.001")),
    "BN105": dict(train=TRAIN.replace(BN, BN.replace(" }", ' param { name: "m" lr_mult: 0 } param { lr_mult: 0 } '
                                                     "param { lr_mult: 0 } }") + BN.replace('"bn"', '"bn2"').replace(
        " }", ' param { name: "m" lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 } }'))),
    "BN106": dict(train=with_bn(TRAIN, "moving_average_fraction: 0.1")),
    "BN107": dict(train=with_bn(TRAIN, "eps: 0"), deploy=with_bn(DEPLOY, "eps: 0")),
    "BN108": dict(deploy=DEPLOY.replace(BN + "\n" + SCALE, 'layer { name: "n" type: "BN" bottom: "c" top: "c" }')),
    "BN201": dict(train=with_bn(TRAIN, "", "param { lr_mult: 1 } param { lr_mult: 0 } param { decay_mult: 0 }")),
    "BN301": dict(train=TRAIN.replace(SCALE, ""), deploy=None),
    "BN302": dict(train=TRAIN.replace("scale_param { bias_term: true }", ""), deploy=None),
    "BN303": dict(train=TRAIN.replace("bias_term: false", "")),
    "BN304": dict(train=TRAIN.replace("{ bias_term: true }", '{ bias_term: true filler { type: "constant" } }')),
    "BN401": dict(train=TRAIN.replace("dim: 32", "dim: 4")),
    "BN402": dict(solver='net: "train.prototxt" iter_size: 4'),
    "BN501": dict(train=TRAIN.replace('bottom: "c" top: "fc"', 'bottom: "c" top: "fc"') + (
        'layer { name: "e" type: "Eltwise" bottom: "fc" bottom: "fc" top: "e" }\n'
        'layer { name: "r2" type: "ReLU" bottom: "fc" top: "fc" }')),
    "BN502": dict(train=TRAIN.replace(BN, 'layer { name: "r0" type: "ReLU" bottom: "c" top: "c" }' + BN)),
    "BN601": dict(weights=GOOD | {"other": ("Scale", [np.ones(4)])}),
    "BN602": dict(weights={k: v for k, v in GOOD.items() if k != "bn"}),
    "BN603": dict(weights=changed(bn=lambda *b: [*b, b[0], b[1]])),
    "BN701": dict(weights=changed(bn=lambda m, v, f: [m, v, f * 0])),
    "BN702": dict(weights=changed(bn=lambda m, v, f: [m, v * [1, 1, -1, 1], f])),
    "BN703": dict(weights=changed(bn=lambda m, v, f: [m, v * [1, 1, np.nan, 1], f])),
    "BN704": dict(weights=changed(bn=lambda m, v, f: [m, v * [1, 1, 0, 1], f])),
    "BN705": dict(weights=changed(c=lambda w: [w * np.where(w == w, np.nan, 1)])),
}  # fmt: skip


@pytest.mark.parametrize("code", CASES)
def test_rule_fires_and_says_where_why_and_what_to_write(files, code):
    nets, options = files(**CASES[code])
    found = [f for f in lint(nets, **options).findings if f.code == code]
    assert found
    for finding in found:
        assert finding.where and finding.what and finding.why and finding.write
        if code < "BN6":
            assert ".prototxt:" in finding.where


@pytest.mark.parametrize("code", CASES)
def test_rule_fires_alone_or_with_its_kin(files, code):
    """What is wrong in one way does not set off rules for other mistakes."""
    kin = {
        "BN103": {"BN103", "BN301"},  # two BatchNorm in a row: the first has no Scale
        "BN105": {"BN103", "BN105", "BN301"},
        "BN501": {"BN501", "BN502"},
    }
    assert set(codes(files, **CASES[code])) <= kin.get(code, {code})


DATA = 'layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "nowhere" batch_size: 32 } }\n'
SILENT = [
    # its data are elsewhere
    (dict(train=DATA + TRAIN[TRAIN.index('layer { name: "c"'):]), "BN001"),
    (dict(train=with_bn(TRAIN, "use_global_stats: false")), "BN102"),
    # siamese nets may share convolutions
    (
        dict(train=TRAIN.replace('name: "c"', 'name: "c" param { name: "w" }').replace(
            'layer { name: "fc"', 'layer { name: "c2" type: "Convolution" bottom: "data" top: "c2" param { name: "w" } '
            'convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }\nlayer { name: "fc"')),
        "BN105",
    ),
    (dict(train=with_bn(TRAIN, "eps: 1e-8"), deploy=with_bn(DEPLOY, "eps: 1e-8")), "BN107"),
    (dict(), "BN108"),
    (dict(train=TRAIN.replace(SCALE, 'layer { name: "b" type: "Bias" bottom: "c" top: "c" }')), "BN301"),
    # all others read what it makes
    (dict(train=TRAIN + 'layer { name: "r2" type: "ReLU" bottom: "fc" top: "r2" }'), "BN501"),
    (dict(weights=GOOD | {"other": ("Scale", [])}), "BN601"),
    # a Scale of two bottoms has no weights
    (
        dict(deploy=DEPLOY.replace(
            'layer { name: "fc"', 'layer { name: "gate" type: "Scale" bottom: "c" bottom: "c" top: "gate" }\n'
            'layer { name: "fc"'), weights=GOOD),
        "BN602",
    ),
    (dict(weights=GOOD), "BN603"),
    (dict(weights=changed(bn=lambda m, v, f: [m, v, f * 0 + 1])), "BN701"),
    (dict(weights=changed(bn=lambda m, v, f: [-m, v, f])), "BN702"),
    (dict(weights=changed(bn=lambda m, v, f: [m, v * 1e7, f])), "BN703"),
    (dict(weights=changed(bn=lambda m, v, f: [m, v * 1e-9, f])), "BN704"),
    (dict(weights=changed(c=lambda w: [w * 1e30])), "BN705"),
    (dict(train=None, deploy=with_bn(DEPLOY, "use_global_stats: true")), "BN101"),
    (dict(deploy=DEPLOY.replace(BN, "").replace(SCALE, "")), "BN103"),  # a folded net
    (dict(train=with_bn(TRAIN, "eps: 1e-05")), "BN104"),
    (dict(train=with_bn(TRAIN, "moving_average_fraction: 0.9")), "BN106"),
    (dict(train=with_bn(TRAIN, "", "param { lr_mult: 0 } " * 3)), "BN201"),
    (
        dict(train=TRAIN.replace("scale_param { bias_term: true }", "").replace(
            'layer { name: "relu"', 'layer { name: "b" type: "Bias" bottom: "c" top: "c" }\nlayer { name: "relu"')),
        "BN302",
    ),
    (dict(train=with_bn(TRAIN.replace("bias_term: false", ""), "use_global_stats: true")), "BN303"),
    (dict(train=TRAIN.replace("{ bias_term: true }", "{ bias_term: true filler { value: 1 } }")), "BN304"),
    (dict(train=with_bn(TRAIN.replace("dim: 32", "dim: 4"), "use_global_stats: true")), "BN401"),
    (dict(train=with_bn(TRAIN, "use_global_stats: true"), solver='net: "train.prototxt" iter_size: 4'), "BN402"),
    (
        dict(train=TRAIN.replace(
            'layer { name: "fc"',
            'layer { name: "d" type: "Dropout" bottom: "c" top: "c" }\nlayer { name: "fc"')),
        "BN502",
    ),
    (dict(train=TRAIN.replace(BN, 'layer { name: "r0" type: "ReLU" bottom: "c" top: "x" }'
                              + BN.replace('bottom: "c" top: "c"', 'bottom: "x" top: "x"'))), "BN502"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "code"), SILENT)
def test_rule_is_silent(files, case, code):
    assert code not in codes(files, **case)


def test_every_rule_has_a_silent_case_and_one_in_which_it_fires():
    codes_of_rules = {code for rule in RULES for code in re.findall(r"BN\d{3}", rule.__doc__.split(":")[0])}
    assert codes_of_rules | {"BN702", "BN703"} == set(CASES) == {code for _, code in SILENT}


# -- severities and details ------------------------------------------------------------------------------


def finding(files, code, **case):
    nets, options = files(**case)
    return next(f for f in lint(nets, **options).findings if f.code == code)


def test_batch_statistics_in_the_net_for_use(files):
    f = finding(files, "BN101", deploy=with_bn(DEPLOY, "use_global_stats: false"))
    assert f.severity == "error" and f.layer == "bn" and f.fixable
    assert f.where.endswith("deploy.prototxt:5:79")


def test_stored_statistics_in_training_are_a_note_when_there_are_some(files):
    train = with_bn(TRAIN, "use_global_stats: true")
    assert finding(files, "BN102", train=train).severity == "warning"
    assert finding(files, "BN102", train=train, weights=GOOD).severity == "note"


def test_rates(files):
    three = "param { lr_mult: 1 } param { lr_mult: 1 } param { lr_mult: 1 }"
    assert finding(files, "BN201", train=with_bn(TRAIN, "", three)).severity == "warning"
    f = finding(files, "BN201", train=with_bn(TRAIN, "", "param { decay_mult: 0 }"))
    assert f.severity == "error" and "the default" in f.what and "Caffe refuses" in f.why


def test_one_value_for_each_channel_is_an_error(files):
    train = TRAIN.replace("dim: 32", "dim: 1").replace("kernel_size: 3", "kernel_size: 8")
    f = finding(files, "BN401", train=train)
    assert f.severity == "error" and "one value per channel" in f.what


def test_batch_size_is_read_without_the_data(files):
    data = 'layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "nowhere" batch_size: 2 } }'
    train = data + TRAIN[TRAIN.index('layer { name: "c"') :]
    f = finding(files, "BN401", train=train)
    assert "batch_size 2" in f.what


def test_iter_size_with_a_small_batch_is_a_warning(files):
    solver = 'net: "train.prototxt" iter_size: 4'
    assert finding(files, "BN402", solver=solver).severity == "note"
    f = finding(files, "BN402", solver=solver, train=TRAIN.replace("dim: 32", "dim: 16"))
    assert f.severity == "warning" and "batch_size 16 alone" in f.why
    assert f.where.endswith("solver.prototxt:1:23")


def test_names_that_match_nothing_at_all(files):
    f = finding(files, "BN601", weights={f"{k}_x": v for k, v in GOOD.items()})
    assert f.severity == "error" and "4 of 4" in f.what


def test_factor_0_with_and_without_statistics(files):
    f = finding(files, "BN701", weights=changed(bn=lambda m, v, x: [m, v, x * 0]))
    assert "although statistics are stored" in f.what
    f = finding(files, "BN701", weights=changed(bn=lambda m, v, x: [m * 0, v * 0, x * 0]))
    assert "there are no statistics" in f.what
    f = finding(files, "BN701", weights=changed(bn=lambda m, v, x: [m, v, -x]))
    assert "-999" in f.what


def test_exploding_variance(files):
    f = finding(files, "BN703", weights=changed(bn=lambda m, v, x: [m, v * 1e12, x]))
    assert f.severity == "warning" and "9.01e+11" in f.what


def test_table(files):
    nets, options = files(train=with_bn(TRAIN, "use_global_stats: true"))
    report = lint(nets, **options)
    assert report.views == ["train.prototxt TRAIN", "train.prototxt TEST", "deploy.prototxt TEST"]
    assert report.table == {"bn": ["stored", "stored", "stored"]}
    nets, options = files(deploy=with_bn(DEPLOY, "use_global_stats: false"))
    report = lint(nets, **options)
    assert report.table == {"bn": ["batch", "stored", "batch"]}
    found = report.as_dict()
    assert found["statistics"]["bn"]["deploy.prototxt TEST"] == "batch"
    json.dumps(found)


def test_findings_in_blocks_name_the_block(tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
        'block { type: "ConvBnRelu" name: "b" bottom: "data" num_output: 3 kernel_size: 3\n'
        "  batch_norm_param { use_global_stats: false } }\n"
    )
    (f,) = lint(net).findings
    assert f.code == "BN101" and f":3:{22}" in f.where


def test_a_message_can_be_given():
    assert lint(blocks.parse(with_bn(DEPLOY, "use_global_stats: false"))).findings[0].code == "BN101"


def test_refusals(tmp_path):
    with pytest.raises(ArgumentError, match="give a net"):
        lint([])
    (tmp_path / "s.prototxt").write_text("base_lr: 1")
    with pytest.raises(ArgumentError, match="names no net"):
        lint(solver=tmp_path / "s.prototxt")
    (tmp_path / "s.prototxt").write_text('net: "nowhere.prototxt"')
    with pytest.raises(FileError, match='s.prototxt:1:1: there is no file "nowhere.prototxt"'):
        lint(solver=tmp_path / "s.prototxt")


# -- repairs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "file", "old", "new"),
    [
        (
            dict(deploy=with_bn(DEPLOY, "use_global_stats: false # why?\n")),
            "deploy", "use_global_stats: false # why?", "use_global_stats: true # why?",
        ),
        (dict(deploy=with_bn(DEPLOY, "eps: 0.001")), "deploy", "eps: 0.001", "eps: 1e-05"),
        (
            dict(train=with_bn(TRAIN, "eps: 0.001")),
            "deploy", 'layer { name: "bn"', 'layer { batch_norm_param { eps: 0.001 } name: "bn"',
        ),
        (
            dict(train=with_bn(TRAIN, "eps: 0.001"), deploy=with_bn(DEPLOY, "moving_average_fraction: 0.9")),
            "deploy", "batch_norm_param { moving", "batch_norm_param { eps: 0.001 moving",
        ),
        (
            dict(train=with_bn(TRAIN, "", "param { lr_mult: 1.5 } param { lr_mult: 2 } param { lr_mult: 0 }")),
            "train", "param { lr_mult: 1.5 } param { lr_mult: 2 }", "param { lr_mult: 0 } param { lr_mult: 0 }",
        ),
        (
            dict(train=with_bn(TRAIN, "", "param { decay_mult: 0 }")),
            "train", "param { decay_mult: 0 }", "param { lr_mult: 0 decay_mult: 0 }",
        ),
        (
            CASES["BN304"], "train", 'filler { type: "constant" }', 'filler { value: 1 type: "constant" }',
        ),
    ],
)  # fmt: skip
def test_fix_changes_that_and_nothing_else(files, tmp_path, case, file, old, new):
    nets, options = files(**case)
    path = tmp_path / f"{file}.prototxt"
    before = path.read_text()
    assert before.count(old) == 1
    report = lint(nets, **options)
    assert not report.clean
    done = report.fix()
    assert done and all(str(path) in words for words in done)
    assert path.read_text() == before.replace(old, new)
    assert lint(nets, **options).clean


def test_fix_leaves_blocks_alone(tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text(
        'template { name: "T" param { flag: bool }\n'
        '  layer { name: "bn" type: "BatchNorm" bottom: "data" top: "data"\n'
        "          batch_norm_param { use_global_stats: ${flag} } } }\n"
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }\n'
        'block { type: "T" flag: false }\n'
    )
    before = net.read_text()
    report = lint(net)
    assert [f.code for f in report.findings] == ["BN101"]
    assert report.fix() == []
    assert net.read_text() == before


@pytest.mark.parametrize("ending", ["h5", "npz", "safetensors"])
def test_weights_of_other_kinds_of_file(files, tmp_path, ending):
    if ending == "h5":
        pytest.importorskip("h5py", reason="HDF5 weights need h5py")
    nets, _ = files()
    path = tmp_path / f"w.{ending}"
    net = caffebn.Net(nets[1], caffebn.TEST)
    for blob in net.params["bn"]:
        blob.data[...] = 1
    net.params["c"][0].data[...] = np.nan
    arrays(net, path)
    assert [f.code for f in lint(nets, weights=path).findings] == ["BN705"]


# -- the command -----------------------------------------------------------------------------------------


def test_command(cli, files, tmp_path):
    nets, options = files(deploy=with_bn(DEPLOY, "use_global_stats: false"), weights=GOOD)
    result = cli("lint", *nets, "-w", options["weights"])
    assert result.exit_code == 1
    assert "error BN101" in result.stdout and "deploy.prototxt:5:79: bn:" in result.stdout
    assert "1 error; --fix repairs 1" in result.stdout
    found = json.loads(cli("lint", *nets, "--json").stdout)
    assert [f["code"] for f in found["findings"]] == ["BN101"]
    result = cli("lint", *nets, "--fix")
    assert result.exit_code == 0 and "nothing found" in result.stdout and "fixed:" in result.stdout


def test_command_with_a_solver_alone(cli, files):
    _, options = files(solver='net: "train.prototxt" iter_size: 2')
    result = cli("lint", "--solver", options["solver"])
    assert result.exit_code == 0 and "note BN402" in result.stdout
    assert cli("lint").exit_code == 2


def test_published_net_is_clean(open_nsfw):
    assert lint(open_nsfw[0], open_nsfw[1]).findings == []


@pytest.mark.parametrize(
    ("eps", "severity"), [("-1", "error"), ("inf", "error"), ("0", "warning"), ("1", "warning")]
)
def test_eps_that_is_none(files, eps, severity):
    both = dict(train=with_bn(TRAIN, f"eps: {eps}"), deploy=with_bn(DEPLOY, f"eps: {eps}"))
    assert finding(files, "BN107", **both).severity == severity


def test_a_net_that_cannot_be_made(files):
    f = finding(files, "BN001", deploy=DEPLOY.replace('bottom: "data" top: "c"', 'bottom: "date" top: "c"'))
    assert (
        f.severity == "error"
        and f.where.endswith("deploy.prototxt:3:39")
        and "made by no earlier layer" in f.what
    )
    f = finding(files, "BN001", deploy=DEPLOY + 'layer { name: "x" type: "PriorBox" bottom: "fc" top: "x" }')
    assert f.severity == "note" and "types that caffebn does not have: PriorBox" in f.what


def test_a_solver_or_an_empty_text_is_no_net(cli, tmp_path):
    (tmp_path / "empty.prototxt").write_text("")
    result = cli("lint", tmp_path / "empty.prototxt")
    assert result.exit_code == 2 and "no layer is in it; expected a net" in result.stderr
