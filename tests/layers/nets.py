"""Small nets around one layer, and the checks that every layer has to pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from caffebn.blob import Blob
from caffebn.errors import NetError
from caffebn.gradient import GradientReport, check_gradients
from caffebn.net import Net

__all__ = ["check_in_place", "check_layer", "make", "outcome", "randomise", "refusal", "values"]


def make(
    layers: str,
    inputs: dict[str, np.ndarray],
    phase: str = "TRAIN",
    device: str = "reference",
    dtype: str = "float64",
    force_backward: bool = True,
    fuse: bool = True,
) -> Net:
    """Make a net of Input layers with those values, and the given layers."""
    text = "force_backward: true\n" if force_backward else ""
    for name, value in inputs.items():
        shape = " ".join(f"dim: {n}" for n in np.shape(value))
        text += f'layer {{ name: "in_{name}" type: "Input" top: "{name}" '
        text += f"input_param {{ shape {{ {shape} }} }} }}\n"
    net = Net.from_text(text + layers, phase, device=device, dtype=dtype, fuse=fuse)
    for name, value in inputs.items():
        net.blobs[name].data[...] = value
    return net


def refusal(layers: str, phase: str = "TRAIN", **shapes: tuple[int, ...]) -> str:
    """Check that no net can be made with those inputs; return the message, which names a place."""
    with pytest.raises(NetError) as caught:
        make(layers, {name: np.zeros(shape) for name, shape in shapes.items()}, phase)
    assert caught.value.where is not None
    return caught.value.message


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal values without two that are nearly equal or nearly 0, so that no small step crosses a kink."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    spread = np.arange(count) / max(count, 1) * 4 - 2
    return rng.permutation(spread + 0.01 * np.sign(spread + 1e-9)).reshape(shape)


def randomise(net: Net, seed: int = 1) -> None:
    """Give all parameters random values; those of a BatchNorm such as a training would leave."""
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            blob.data[...] = rng.normal(size=blob.shape)
            if layer.type == "BatchNorm" and i:
                blob.data[...] = rng.uniform(1, 5, blob.shape)


def outcome(net: Net, seed: int = 2) -> dict[str, np.ndarray]:
    """Run forward, put random gradients into the outputs, run backward; return copies of what came out."""
    rng = np.random.default_rng(seed)
    net.forward()
    found = {f"{name} {k}": net.blobs[name].data.copy() for k, name in enumerate(net.outputs)}
    net.clear_param_diffs()
    for name in net.outputs:
        if not net.blob_loss_weights[name]:
            net.blobs[name].diff[...] = rng.normal(size=net.blobs[name].shape)
    net.backward()
    found |= {f"gradient of {name}": net.blobs[name].diff.copy() for name in net.inputs}
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            found[f"{name}[{i}]"] = blob.data.copy()
            found[f"gradient of {name}[{i}]"] = blob.diff.copy()
    return found


def check_layer(
    layers: str,
    device: str,
    phase: str = "TRAIN",
    prepare: Callable[[Net], None] = randomise,
    **inputs: np.ndarray,
) -> GradientReport:
    """Check what holds for every layer with a gradient, on bottoms that it does not overwrite.

    Its gradients are those of its forward pass; the back end agrees with the reference; bottoms may be
    read-only; gradients of parameters are added and those of bottoms overwritten.
    """

    def net_of(device: str, dtype: str) -> Net:
        net = make(layers, inputs, phase, device, dtype)
        prepare(net)
        return net

    report = check_gradients(net_of(device, "float64"))

    net = net_of(device, "float32")
    random = net.layers[0].rng.bit_generator
    state = random.state
    found, expected = outcome(net), outcome(net_of("reference", "float32"))
    for what, value in expected.items():
        _check_near(found[what], value, what)

    for name in inputs:
        _make_read_only(net.blobs[name])
    random.state = state
    net.forward()
    net.backward()
    for what, value in found.items():
        if what.startswith("gradient of "):
            name = what.removeprefix("gradient of ")
            is_parameter = name.endswith("]")
            diff = _parameter_diff(net, name) if is_parameter else net.blobs[name].diff
            _check_near(diff, value * (2 if is_parameter else 1), what)
    return report


def check_in_place(
    layers: str, device: str, phase: str = "TRAIN", dtype: str = "float32", **inputs: np.ndarray
) -> None:
    """Check that a layer from "x" to "y" gives the same bits with "y" in the place of "x", and fused nearly so."""
    assert layers.count('top: "y"') == 1
    results = []
    in_place = layers.replace('top: "y"', 'top: "x"')
    for text, fuse in ((layers, False), (in_place, False), (in_place, True)):
        net = make(text, inputs, phase, device, dtype, fuse=fuse)
        randomise(net)
        found = outcome(net)
        results.append({what.replace("y 0", "x 0"): value for what, value in found.items()})
    assert results[0].keys() == results[1].keys()
    for what, value in results[0].items():
        np.testing.assert_array_equal(results[1][what], value, err_msg=what)
        _check_near(results[2][what], value, what)


def _check_near(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Equal in single precision, but for what sums lose when they cancel."""
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * scale, err_msg=what)


def _make_read_only(blob: Blob) -> None:
    blob._data.flat.flags.writeable = False
    blob._data_view = None  # the one made before may still write
    assert not blob.data.flags.writeable


def _parameter_diff(net: Net, name: str) -> np.ndarray:
    layer, index = name[:-1].rsplit("[", 1)
    return net.params[layer][int(index)].diff
