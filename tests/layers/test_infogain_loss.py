"""InfogainLoss."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, FileError, FormatError, NetError
from caffebn.net import Net
from caffebn.proto import binary, make_blob
from tests.layers.nets import check_layer, make, outcome, refusal, values

LOSS = 'layer {{ name: "loss" type: "InfogainLoss" bottom: "x" bottom: "label" bottom: "H" top: "loss" {} }}'
FROM_FILE = LOSS.replace('bottom: "H" ', "")

X, LABEL = values(2, 4, 3), np.array([[0, 3, 1], [2, 2, 0.0]])
H = np.abs(values(4, 4, seed=1))


def expected(x, label, h, ignore, z):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    losses = -(np.moveaxis(np.log(p), 1, -1) * h[label.astype(int)]).sum(-1)
    return losses[label != (-1 if ignore is None else ignore)].sum() / z


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    ("param", "ignore", "z"),
    [
        ("", None, 6),
        ("loss_param { normalization: FULL }", None, 6),
        ("loss_param { normalization: BATCH_SIZE }", None, 2),
        ("loss_param { normalization: NONE }", None, 1),
        ("loss_param { ignore_label: 2 }", 2, 4),
        ("loss_param { ignore_label: 2 normalization: FULL }", 2, 6),
    ],
)
def test_normalization(param, ignore, z, phase, device):
    inputs = {"x": X, "label": LABEL, "H": H}
    net = make(LOSS.format(param), inputs, phase, device)
    assert net.forward()["loss"] == pytest.approx(expected(X, LABEL, H, ignore, z), rel=1e-13)
    report = check_layer(LOSS.format(param), device, phase, **inputs)
    assert (report.names, report.excluded) == (["x"], 0), "labels and matrix have no gradient"


def test_another_axis(device):
    x = np.moveaxis(X, 1, 2)
    text = LOSS.format("infogain_loss_param { axis: -1 }")
    net = make(text, {"x": x, "label": LABEL, "H": H}, device=device)
    assert net.forward()["loss"] == pytest.approx(expected(X, LABEL, H, None, 6), rel=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_floor_of_the_logarithm(dtype, device):
    inputs = {"x": [[0, -1000.0]], "label": [1], "H": np.eye(2)}
    net = make(LOSS.format(""), inputs, device=device, dtype=dtype)
    assert net.forward()["loss"] == pytest.approx(-np.log(1e-20), rel=1e-6)
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[1, -1]], "the gradient does not know the floor"


def test_the_matrix_may_have_any_shape(device):
    inputs = {"x": X, "label": LABEL, "H": H.reshape(1, 1, 4, 4)}
    check_layer(LOSS.format(""), device, **inputs)


def test_the_matrix_from_a_file(device, tmp_path):
    path = tmp_path / "h.binaryproto"
    binary.write(path, make_blob(H.astype("f")))
    text = FROM_FILE.format(f'infogain_loss_param {{ source: "{path}" }}')
    net = make(text, {"x": X, "label": LABEL}, device=device)
    assert net.forward()["loss"] == pytest.approx(expected(X, LABEL, H.astype("f"), None, 6), rel=1e-6)
    check_layer(text, device, x=X, label=LABEL)


def test_the_probabilities_as_second_top(device):
    text = LOSS.replace('top: "loss"', 'top: "loss" top: "p"').format("loss_weight: 2 loss_weight: 0")
    found = outcome(make(text, {"x": X, "label": LABEL, "H": H}, device=device))
    p = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    np.testing.assert_allclose(found["p 1"], p, rtol=1e-13)
    single = outcome(make(LOSS.format("loss_weight: 2"), {"x": X, "label": LABEL, "H": H}, device=device))
    np.testing.assert_array_equal(found["gradient of x"], single["gradient of x"])


def test_empty_batch(device):
    inputs = {"x": np.zeros((0, 3)), "label": np.zeros(0), "H": np.eye(3)}
    assert outcome(make(LOSS.format(""), inputs, device=device))["loss 0"] == 0


def test_a_label_that_is_no_class(device):
    net = make(LOSS.format(""), {"x": values(2, 3), "label": [0, 3], "H": np.eye(3)}, device=device)
    with pytest.raises(
        ArgumentError, match=r'^layer "loss" \(InfogainLoss\): infogain_loss: label must hold classes'
    ):
        net.forward()


@pytest.mark.parametrize(
    ("top", "said"), [("label", 'the labels, "label",'), ("H", 'the values of the matrix, "H",')]
)
def test_gradients_of_labels_and_matrix_are_refused(top, said):
    scale = f'layer {{ name: "s" type: "Scale" bottom: "d" top: "{top}" scale_param {{ axis: 0 }} }}'
    inputs = {"x": values(2, 2), "label": [0.0, 1], "H": np.eye(2)}
    inputs["d"] = inputs.pop(top)
    net = make(scale + LOSS.format(""), inputs, force_backward=False)
    net.forward()
    with pytest.raises(NetError, match=f"{said} have no gradient"):
        net.backward()


@pytest.mark.parametrize(
    ("text", "shapes", "said"),
    [
        (
            FROM_FILE.format(""),
            {},
            "needs a matrix: give a third bottom, or infogain_loss_param { source: ... }",
        ),
        (
            LOSS.format("loss_param { normalize: true }"),
            {"H": (3, 3)},
            "normalize is not known here: write normalization: VALID or another",
        ),
        (
            LOSS.format(""),
            {"H": (3, 4)},
            'expected a matrix of 3 x 3 values, for the classes of "x" (2x3), found "H" (3x4)',
        ),
        (
            LOSS.format("infogain_loss_param { axis: 2 }"),
            {"H": (3, 3)},
            "axis 2 does not exist: the bottom has 2 axes",
        ),
    ],
)
def test_refusals(text, shapes, said):
    assert refusal(text, x=(2, 3), label=(2,), **shapes) == f'layer "loss" (InfogainLoss): {said}'


def test_files_that_do_not_hold_the_matrix(tmp_path):
    path = tmp_path / "h.binaryproto"
    text = FROM_FILE.format(f'infogain_loss_param {{ source: "{path}" }}')
    with pytest.raises(FileError, match="h.binaryproto"):
        make(text, {"x": values(2, 3), "label": np.zeros(2)})
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(FormatError, match="h.binaryproto"):
        make(text, {"x": values(2, 3), "label": np.zeros(2)})
    binary.write(path, make_blob(np.eye(2, dtype="f")))
    message = refusal(text, x=(2, 3), label=(2,))
    assert message.endswith(
        f'expected a matrix of 3 x 3 values, for the classes of "x" (2x3), found 4 in {path}'
    )


def test_the_file_is_read_when_the_net_is_made(tmp_path):
    path = tmp_path / "h.binaryproto"
    binary.write(path, make_blob(np.eye(3, dtype="f")))
    net = Net.from_text(
        'layer { name: "i" type: "Input" top: "x" top: "label" '
        "input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }"
        + FROM_FILE.format(f'infogain_loss_param {{ source: "{path}" }}'),
        "TEST",
    )
    path.unlink()
    assert np.isfinite(net.forward()["loss"])
