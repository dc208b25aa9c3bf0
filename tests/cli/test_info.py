"""``caffebn info``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caffebn.net import Net


@pytest.fixture
def weights(net_file, tmp_path):
    """Write a weights file for the small net, with these three blobs in its BatchNorm."""

    def weights(sum_mean, sum_var, factor):
        net = Net(str(net_file), "TEST")
        for blob, value in zip(net.params["bn"], (sum_mean, sum_var, factor), strict=True):
            blob.data[...] = value
        path = tmp_path / "net.caffemodel"
        net.save(str(path))
        return path

    return weights


def cells(stdout, first):
    """The row of a table that begins with this word."""
    return next(line.split() for line in stdout.splitlines() if line.split()[:1] == [first])


def test_table(run, net_file):
    result = run("info", net_file)
    assert result.exit_code == 0 and result.stderr == ""
    assert cells(result.stdout, "data") == ["data", "Input", "2x3x6x5", "720", "B"]
    # 4 x 3 x 3 x 3 weights and 4 biases; 2 x 4 x 3 outputs of 27 products for each of 4 channels
    conv = cells(result.stdout, "conv")
    assert conv[:5] == ["conv", "Convolution", "2x4x4x3", "112", "2.59"] and conv[-2:] == ["384", "B"]
    assert cells(result.stdout, "relu") == ["relu", "ReLU", "2x4x4x3"]
    assert cells(result.stdout, "7")[:2] == ["7", "layers"]


def test_batch_norm_table(run, net_file):
    result = run("info", net_file)
    line = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["bn"]][-1]
    assert line == ["bn", "batch", "stored", "1e-05", "0.999"]


def test_json(run, net_file):
    found = json.loads(run("info", net_file, "--json").stdout)
    assert found["net"] == "small" and found["phase"] == "TEST"
    by_name = {row["name"]: row for row in found["layers"]}
    assert list(by_name) == ["data", "conv", "bn", "scale", "relu", "fc", "prob"]
    assert by_name["conv"] == {
        "name": "conv", "type": "Convolution", "bottoms": ["data"], "tops": ["conv"],
        "shapes": [[2, 4, 4, 3]], "parameters": 112, "macs": 2 * 4 * 12 * 27, "memory": 2 * 4 * 12 * 4,
    }  # fmt: skip
    assert by_name["bn"]["parameters"] == 9 and by_name["bn"]["memory"] == 0
    assert by_name["fc"]["macs"] == 2 * 48 * 2
    assert found["totals"] == {
        key: sum(row[key] for row in found["layers"]) for key in ("parameters", "macs", "memory")
    }
    assert found["batch_norm"] == [{
        "name": "bn", "channels": 4, "eps": 1e-5, "moving_average_fraction": 0.999, "train": "batch",
        "test": "stored", "factor": None, "notes": [],
    }]  # fmt: skip


def test_batch(run, net_file):
    found = json.loads(run("info", net_file, "--json", "--batch", 5).stdout)
    assert [row["shapes"][0][0] for row in found["layers"]] == [5] * 7


def test_batch_of_a_net_with_data_layers(run, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "a" type: "MemoryData" top: "a" top: "b"
        memory_data_param { batch_size: 1 channels: 1 height: 1 width: 1 } }""")
    result = run("info", path, "--batch", 5)
    assert (
        result.exit_code == 1
        and "--batch sets the size of Input layers, and this net has none" in result.stderr
    )


@pytest.mark.parametrize("stated, train, test", [("true", "stored", "stored"), ("false", "batch", "batch")])
@pytest.mark.parametrize("phase", ["train", "TEST"])
def test_stated_use_of_statistics(run, net_file, stated, train, test, phase):
    text = net_file.read_text()
    net_file.write_text(text.replace(
        'type: "BatchNorm"', f'type: "BatchNorm" batch_norm_param {{ use_global_stats: {stated} eps: 0.001 }}'
    ))  # fmt: skip
    (state,) = json.loads(run("info", net_file, "--json", "--phase", phase).stdout)["batch_norm"]
    assert (state["train"], state["test"], state["eps"]) == (train, test, 0.001)
    assert [note[:34] for note in state["notes"]] == (
        ["uses the batch in TEST as well: th"] if test == "batch" else []
    )


def test_factor(run, net_file, weights):
    file = weights(1, 2, 999.98)
    result = run("info", net_file, "--weights", file)
    assert result.stderr == ""
    line = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["bn"]][-1]
    assert line == ["bn", "batch", "stored", "1e-05", "0.999", "999.98"]


@pytest.mark.parametrize("blobs, note", [
    ((1, [1, 0, 0, 3], 10), "bn: the variance is 0 in 2 of 4 channels: they never varied"),
    ((np.nan, 1, 1), "bn: holds statistics that are not finite"),
    ((1, np.inf, 1), "bn: holds statistics that are not finite"),
    ((1, 1, 0), 'layer "bn" (BatchNorm): the factor (blob 2) is 0 although statistics are stored'),
    ((1, [1, -1, 2, 3], 10), 'layer "bn" (BatchNorm): stored variances (blob 1) are negative'),
])  # fmt: skip
def test_remarkable_blobs(run, net_file, weights, blobs, note):
    result = run("info", net_file, "--weights", weights(*blobs))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {note}") and result.stderr.count("warning") == 1


def test_what_the_weights_did(run, net_file, weights):
    file = weights(1, 2, 10)
    net_file.write_text(net_file.read_text().replace('"fc"', '"head"'))
    found = json.loads(run("info", net_file, "--weights", file, "--json").stdout)
    assert found["weights"] == {
        "source": str(file),
        "matched": ["conv", "bn", "scale"],
        "missing": ["head"],
        "unused": ["fc"],
        "notes": [],
    }
    lines = run("info", net_file, "--weights", file).stdout.splitlines()
    assert lines[-3:] == [
        "without weights: head", "weights not used: fc", f"3 layers got weights from {file}"
    ]  # fmt: skip


def test_no_factor_without_weights_for_the_layer(run, net_file, weights):
    file = weights(1, 2, 10)
    net_file.write_text(net_file.read_text().replace('"bn"', '"norm"'))
    (state,) = json.loads(run("info", net_file, "--weights", file, "--json").stdout)["batch_norm"]
    assert state["factor"] is None


def test_loss_without_a_top(run, net_file):
    text = net_file.read_text()
    label = 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }'
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }'
    net_file.write_text(label + text[: text.index('layer { name: "prob"')] + loss)
    found = json.loads(run("info", net_file, "--json").stdout)["layers"][-1]
    assert (found["name"], found["tops"], found["shapes"], found["memory"]) == ("loss", [], [], 0)


def test_layers_in_one_state_share_a_line(run, tmp_path):
    path = tmp_path / "net.prototxt"
    text = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }'
    for i, eps in enumerate([1e-5, 1e-5, 1e-3, 1e-5]):
        text += f'layer {{ name: "b{i}" type: "BatchNorm" bottom: "data" top: "data" '
        text += f"batch_norm_param {{ eps: {eps} }} }}"
    path.write_text(text)
    lines = run("info", path).stdout.splitlines()
    assert [line.split()[:4] for line in lines if " more" in line] == [["b0", "and", "2", "more"]]
    assert "0.001" in [line for line in lines if line.startswith("b2")][-1]


def test_shared_parameters_count_once(run, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" } param { name: "b" }
                inner_product_param { num_output: 3 } }
        layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } param { name: "b" }
                inner_product_param { num_output: 3 } }
    """)
    found = json.loads(run("info", path, "--json").stdout)
    assert [row["parameters"] for row in found["layers"]] == [0, 12, 0] and found["totals"][
        "parameters"
    ] == 12


def test_missing_file(run, tmp_path):
    result = run("info", tmp_path / "none.prototxt")
    assert result.exit_code == 2 and "none.prototxt' does not exist" in result.stderr


def test_missing_weights(run, net_file):
    result = run("info", net_file, "--weights", "none.caffemodel")
    assert result.exit_code == 2 and "'none.caffemodel' does not exist" in result.stderr


def test_wrong_text(run, net_file):
    net_file.write_text("layer { name: }")
    result = run("info", net_file)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {net_file}:1:15: ") and "Traceback" not in result.stderr


def test_weights_in_place_of_the_net(run, net_file, weights):
    result = run("info", weights(1, 1, 1))
    assert result.exit_code == 1 and result.stderr.startswith("error: ")


@pytest.mark.parametrize("words", [["--phase", "both"], ["--batch", "0"], ["--batch", "x"], ["--nothing"]])
def test_wrong_options(run, net_file, words):
    result = run("info", net_file, *words)
    assert result.exit_code == 2 and words[0] in result.stderr


@pytest.mark.parametrize("verb", [["info"], ["info", "--phase", "train", "--json"], ["time", "-n", "1"]])
def test_each_warning_comes_once(run, net_file, verb):
    net_file.write_text(net_file.read_text().replace("kernel_size: 3", "kernel_size: 3 kernal: 4"))
    result = run(*verb, net_file)
    assert result.exit_code == 0
    assert result.stderr.count("kernal") == 1
