"""``caffebn layers``, and the page that it makes."""

from __future__ import annotations

import json

import pytest

from caffebn.cli.layers import describe, markdown
from caffebn.layers import LAYERS, Layer, layer_type_list, register


@pytest.fixture
def foreign():
    """A type that another package has registered."""

    @register("Foreign")
    class Foreign(Layer):
        """Something of another package."""

    Foreign.__module__ = "other.module"
    yield
    del LAYERS["Foreign"]


def test_table(run):
    result = run("layers")
    assert result.exit_code == 0
    cells = [line.split(maxsplit=1) for line in result.stdout.splitlines() if line.strip()]
    lines = {name: rest[0].strip() for name, *rest in cells if rest}
    assert set(layer_type_list()) <= lines.keys()
    assert lines["Eltwise"].split()[:5] == ["2", "or", "more", "1", "yes"]
    assert lines["Power"].endswith("yes       yes       power: 1, scale: 1, shift: 0")
    assert "moving_average_fraction: 0.999, eps: 1e-05" in lines["BatchNorm"]


def test_one_type(run):
    result = run("layers", "BatchNorm", "Silence")
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "BatchNorm: Normalise each channel to zero mean and unit variance.\n\nbottom 0 (N, C"
    )
    assert "batch_norm_param.moving_average_fraction  float  0.999" in result.stdout
    assert "Silence: Read blobs" in result.stdout


def test_unknown_type(run):
    result = run("layers", "BatchNormm")
    assert result.exit_code == 1
    assert result.stderr == 'error: there is no layer type "BatchNormm"; did you mean "BatchNorm"?\n'


def test_json(run):
    rows = json.loads(run("layers", "--json").stdout)
    assert [row["type"] for row in rows] == layer_type_list()
    (row,) = json.loads(run("layers", "SigmoidCrossEntropyLoss", "--json").stdout)
    assert set(row) == {
        "type", "summary", "text", "package", "bottoms", "tops", "in_place", "gradient", "loss_weight", "options"
    }  # fmt: skip
    assert (row["package"], row["bottoms"], row["tops"], row["loss_weight"]) == ("caffebn", "2", "1", 1)
    assert row["options"][-1] == {
        "field": "loss_param.normalization",
        "type": "FULL, VALID, BATCH_SIZE, NONE",
        "default": "BATCH_SIZE",
    }


def test_options():
    options = {o["field"]: (o["type"], o["default"]) for o in describe("SoftmaxWithLoss")["options"]}
    assert options["softmax_param.axis"] == ("int32", "1")
    assert options["loss_param.normalization"] == ("FULL, VALID, BATCH_SIZE, NONE", "VALID")
    assert describe("Clip")["options"][0] == {
        "field": "clip_param.min",
        "type": "required float",
        "default": "",
    }
    assert describe("Python")["options"][2]["default"] == '""'
    assert (describe("Python")["bottoms"], describe("Convolution")["tops"]) == ("any", "as bottoms")


def test_the_page_is_that_of_these_layers(checkout):
    page = (checkout / "docs" / "layers.md").read_text(encoding="utf-8")
    assert page == markdown(), "docs/layers.md is old: run `caffebn layers --markdown > docs/layers.md`"


def test_the_page_has_only_layers_of_caffebn(run, foreign):
    assert "Foreign" in run("layers").stdout
    result = run("layers", "--markdown")
    assert "Foreign" not in result.stdout and result.stdout == markdown()


@pytest.mark.parametrize("words", [["ReLU"], ["--json"]])
def test_markdown_is_all_or_nothing(run, words):
    result = run("layers", "--markdown", *words)
    assert result.exit_code == 2 and "--markdown prints all types" in result.stderr
