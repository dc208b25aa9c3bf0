"""What `channels` knows of the layers before."""

from __future__ import annotations

import pytest

SHOW = 'template { name: "Show" layer { name: ${channels(bottom)} } }'.replace(
    "${channels(bottom)}", '"${channels(bottom)}"'
)


@pytest.mark.parametrize(("layers", "blob", "expected"), [
    ("", "data", 3),
    ('layer { type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 8 } }', "c", 8),
    ('layer { type: "Deconvolution" bottom: "data" top: "c" convolution_param { num_output: 9 } }', "c", 9),
    ('layer { type: "InnerProduct" bottom: "data" top: "c" inner_product_param { num_output: 5 } }', "c", 5),
    ('layer { type: "BatchNorm" bottom: "data" top: "data" } layer { type: "ReLU" bottom: "data" top: "r" }', "r", 3),
    ('layer { type: "Concat" bottom: "data" bottom: "data" top: "c" }', "c", 6),
    ('layer { type: "Concat" bottom: "data" bottom: "data" top: "c" concat_param { axis: 0 } }', "c", 3),
    ('layer { type: "Concat" bottom: "data" bottom: "data" top: "c" concat_param { concat_dim: 2 } }', "c", 3),
    ('layer { type: "Pooling" bottom: "data" top: "c" top: "mask" }', "mask", 3),
    ('layer { type: "Split" bottom: "data" top: "a" top: "b" }', "b", 3),
    ('layer { type: "Input" top: "a" top: "b" input_param { shape { dim: [1, 4] } } }', "b", 4),
    ('layer { type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: [1, 4] } shape { dim: [1, 5] } } }',
     "b", 5),
    ('layer { type: "MemoryData" top: "a" top: "b" memory_data_param { channels: 2 } }', "a", 2),
    ('input: "x" input: "y" input_shape { dim: [1, 6, 2, 2] } input_shape { dim: [1, 7] }', "y", 7),
    ('input: "x" input: "y" input_dim: 1 input_dim: 6 input_dim: 2 input_dim: 2 input_dim: [1, 8, 2, 2]', "y", 8),
])  # fmt: skip
def test_known(expand, layers, blob, expected):
    assert expand(f'{layers} {SHOW} block {{ type: "Show" bottom: "{blob}" }}')[-1].name == str(expected)


def test_the_latest_version_counts(expand):
    conv = 'layer { type: "Convolution" bottom: "data" top: "data" convolution_param { num_output: %d } } '
    use = 'block { type: "Show" bottom: "data" } '
    layers = expand(SHOW + use + conv % 8 + use + conv % 9 + use)
    assert [layer.name for layer in layers if not layer.type] == ["3", "8", "9"]


@pytest.mark.parametrize(("layers", "blob", "words"), [
    ('layer { name: "d" type: "Data" top: "x" }', "x",
     'cannot tell how many channels "x" has, for layer "d" (Data) does not say: state what depends on it'),
    ('layer { name: "d" type: "Data" top: "x" } layer { type: "ReLU" bottom: "x" top: "y" }', "y",
     'layer "d" (Data) does not say'),
    ('layer { name: "s" type: "Slice" bottom: "data" top: "x" } '
     'layer { type: "Concat" bottom: "data" bottom: "x" top: "y" }', "y", 'layer "s" (Slice) does not say'),
    ('layer { name: "r" type: "ReLU" bottom: "none" top: "x" }', "x", 'layer "r" (ReLU) does not say'),
    ('layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 4 } } }', "x",
     'layer "i" (Input) does not say'),
    ('layer { name: "c" type: "Concat" top: "x" }', "x", 'layer "c" (Concat) does not say'),
    ('layer { name: "r" type: "ReLU" top: "x" }', "x", 'layer "r" (ReLU) does not say'),
    ("", "dat", 'no layer before this block makes "dat"'),
    ('layer { type: "Input" top: "datum" input_param { shape { dim: [1, 4] } } }', "dat", "did you mean"),
])  # fmt: skip
def test_unknown(refusal, layers, blob, words):
    data = (
        'layer { type: "Input" top: "data" input_param { shape { dim: [1, 3] } } } '
        if "data" in layers
        else ""
    )
    assert words in refusal(f'{data}{layers} {SHOW} block {{ type: "Show" bottom: "{blob}" }}')
