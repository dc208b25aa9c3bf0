"""Population statistics: those of all values together, whatever the batches."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caffebn import blocks
from caffebn.bn import bn_stats
from caffebn.bn.opening import definition_of, fill, make_net
from caffebn.errors import ArgumentError
from caffebn.net import Net
from caffebn.weights import read_weights
from tests.bn.nets import bn, conv, data, layer, random_weights, relu, run, scale

NET = (
    data(4, 3, 6, 5)
    + conv("c1", "data")
    + bn("b1", "c1")
    + scale("s1", "c1")
    + relu("r1", "c1")
    + layer("Dropout", "drop", "c1", "c1")
    + conv("c2", "c1", kernel=1)
    + bn("b2", "c2", "n2")
    + scale("s2", "n2")
    + layer("Eltwise", "sum", "c1 n2")
    + bn("b3", "sum", "n3")
    + scale("s3", "n3")
    + layer("InnerProduct", "fc", "n3", text="inner_product_param { num_output: 3 }")
)
X = np.random.default_rng(7).normal(2, 3, (10, 3, 6, 5)).astype(np.float32) * np.linspace(
    0.2, 2, 10, dtype=np.float32
).reshape(10, 1, 1, 1)


@pytest.fixture(scope="module")
def weights():
    return random_weights(NET)


def moments(x):
    rows = x.swapaxes(0, 1).reshape(x.shape[1], -1).astype(np.float64)
    return rows.mean(1), rows.var(1)


def values(weights, stop, x, statistics=None, batch=False):
    """What the layer `stop` makes, with other statistics or those of the batch."""
    definition = definition_of(blocks.parse(NET))
    for spec in definition.layer:
        if spec.type == "BatchNorm":
            spec.mutable("batch_norm_param").use_global_stats = not batch
    net = make_net(definition, {**weights, **(statistics or {})}, "float64")
    fill(net, {"data": x})
    return next(iter(net.forward(end=stop).values())).copy()


@pytest.mark.parametrize("method", ["sweep", "layerwise"])
def test_the_first_layer_sees_the_statistics_of_all_values(weights, method):
    done = bn_stats(blocks.parse(NET), weights, {"data": X}, method=method)
    mean, var = moments(values(weights, "c1", X))
    first = done.layers[0]
    assert first.values == 10 * 4 * 3 and done.items == 10
    np.testing.assert_allclose(first.mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first.var, var, rtol=1e-5)
    # the batches differ, so an average of their variances would be smaller
    batches = [moments(values(weights, "c1", X[i : i + 4]))[1] for i in (0, 4, 8)]
    assert np.all(np.average(batches, axis=0, weights=[4, 4, 2]) < 0.99 * var)
    assert first.spread > 0.01


def test_layer_by_layer_each_sees_what_it_will_see(weights):
    """With the new statistics, the input of each BatchNorm has just these statistics."""
    done = bn_stats(blocks.parse(NET), weights, {"data": X}, method="layerwise")
    assert done.passes == 3
    for name, stop in (("b1", "c1"), ("b2", "c2"), ("b3", "sum")):
        mean, var = moments(values(weights, stop, X, done.blobs))
        found = next(one for one in done.layers if one.name == name)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.var, var, rtol=1e-4)


def test_in_one_sweep_each_layer_normalises_with_its_batch(weights):
    done = bn_stats(blocks.parse(NET), weights, {"data": X[:8]})
    parts = [values(weights, "sum", X[i : i + 4], batch=True) for i in (0, 4)]
    mean, var = moments(np.concatenate(parts))
    np.testing.assert_allclose(done.layers[2].mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(done.layers[2].var, var, rtol=1e-4)


@pytest.mark.parametrize("method", ["sweep", "layerwise"])
def test_the_size_of_the_batch_does_not_matter_to_the_first_layer(weights, method):
    found = [
        bn_stats(blocks.parse(NET), weights, {"data": X}, method=method, batch_size=size)
        for size in (1, 3, 10)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other.layers[0].var, found[0].layers[0].var, rtol=1e-5)
        if method == "layerwise":
            np.testing.assert_allclose(other.layers[2].var, found[0].layers[2].var, rtol=1e-4)


def test_unbiased(weights):
    biased = bn_stats(blocks.parse(NET), weights, {"data": X}).layers[0]
    unbiased = bn_stats(blocks.parse(NET), weights, {"data": X}, unbiased=True).layers[0]
    np.testing.assert_allclose(unbiased.var, biased.var * 120 / 119, rtol=1e-12)


def test_items(weights):
    found = bn_stats(blocks.parse(NET), weights, {"data": X}, items=5)
    expected = bn_stats(blocks.parse(NET), weights, {"data": X[:5]})
    np.testing.assert_allclose(found.layers[0].var, expected.layers[0].var, rtol=1e-6)


def test_a_large_offset_does_not_spoil_the_variance(weights):
    text = data(4, 3, 6, 5) + bn("b", "data", "n")
    x = np.float32(10000) + np.random.default_rng(0).normal(0, 0.5, (12, 3, 6, 5)).astype(np.float32)
    done = bn_stats(blocks.parse(text), {}, {"data": x}, score=False)
    np.testing.assert_allclose(done.layers[0].var, moments(x)[1], rtol=1e-6)


def test_drift(weights):
    mean, var = moments(values(weights, "c1", X))
    stored = {**weights, "b1": [2 * (mean + np.sqrt(var)), 2 * (var * 4), np.array([2.0])]}
    found = bn_stats(blocks.parse(NET), stored, {"data": X}).layers[0]
    assert found.old_factor == 2
    assert found.mean_drift == pytest.approx(1, rel=1e-4)
    assert found.var_ratio == pytest.approx((4, 4), rel=1e-4)


def test_what_is_stored_goes_on_training_as_before(weights):
    """The factor is what it is after a long training, so that a new batch weighs 1 / factor."""
    done = bn_stats(blocks.parse(NET), weights, {"data": X})
    mean, var, factor = done.blobs["b1"]
    assert factor == pytest.approx(1000, rel=1e-3)
    np.testing.assert_allclose(mean / factor, done.layers[0].mean, rtol=1e-6)
    text = NET.replace('"BatchNorm"', '"BatchNorm" batch_norm_param { moving_average_fraction: 1 }')
    assert bn_stats(blocks.parse(text), weights, {"data": X}).blobs["b1"][2] == 3


def test_shared_statistics_are_pooled():
    share = 'param { name: "m" lr_mult: 0 } param { name: "v" lr_mult: 0 } param { name: "f" lr_mult: 0 }'
    text = (data(4, 3, 6, 5) + conv("a", "data") + conv("b", "data") + bn("ba", "a", text=share)
            + bn("bb", "b", text=share) + layer("Concat", "j", "a b", text="concat_param { axis: 0 }"))  # fmt: skip
    weights = random_weights(text)
    done = bn_stats(blocks.parse(text), weights, {"data": X})
    mine = {k: v for k, v in weights.items() if k in "ab"}
    plain = data(4, 3, 6, 5) + conv("a", "data") + conv("b", "data")
    both = run(plain, mine, {"data": X})
    mean, var = moments(np.concatenate([both["a"], both["b"]]))
    for found in done.layers:
        assert found.values == 240
        np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.var, var, rtol=1e-5)
    with pytest.raises(ArgumentError, match="share their statistics"):
        bn_stats(blocks.parse(text), weights, {"data": X}, method="layerwise")


def test_score(weights):
    labels = run(NET, weights, {"data": X})["fc"].argmax(1)
    found = bn_stats(blocks.parse(NET), weights, {"data": X, "label": labels})
    assert found.before == {"accuracy of fc": 1.0}
    assert 0 <= found.after["accuracy of fc"] <= 1


# -- data of the net itself ------------------------------------------------------------------------------


@pytest.fixture
def own_data(tmp_path):
    """A net that reads an HDF5 file of 10 items in batches of 4, and its weights."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "d.h5", "w") as f:
        f["data"], f["label"] = X, np.arange(10, dtype=np.float32) % 3
    (tmp_path / "list.txt").write_text(str(tmp_path / "d.h5"))
    source = f'hdf5_data_param {{ source: "{tmp_path / "list.txt"}" batch_size: 4 }}'
    text = (
        f'layer {{ name: "data" type: "HDF5Data" top: "data" top: "label" {source} }}\n'
        + NET.split("\n", 1)[1]
        + layer("Accuracy", "accuracy", "fc label", text="include { phase: TEST }")
        + layer("SoftmaxWithLoss", "loss", "fc label")
    )
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return path


def test_data_layers_are_read_once_and_the_last_batch_counts_what_it_has(own_data, weights):
    done = bn_stats(own_data, weights)
    assert done.items == 10 and done.layers[0].values == 120
    mean, var = moments(values(weights, "c1", X))
    np.testing.assert_allclose(done.layers[0].mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(done.layers[0].var, var, rtol=1e-5)
    assert set(done.before) == {"accuracy", "loss"} == set(done.after)
    layered = bn_stats(own_data, weights, method="layerwise", score=False)
    expected = bn_stats(blocks.parse(NET), weights, {"data": X}, method="layerwise", score=False)
    for one, other in zip(layered.layers, expected.layers, strict=True):
        np.testing.assert_allclose(one.var, other.var, rtol=1e-5)


def test_dropout_is_off(own_data, weights):
    # it would double the variance of what is left
    text = own_data.read_text()
    assert "Dropout" in text
    found = bn_stats(own_data, weights, score=False).layers[2]
    own_data.write_text(text.replace(layer("Dropout", "drop", "c1", "c1"), ""))
    np.testing.assert_allclose(bn_stats(own_data, weights, score=False).layers[2].var, found.var)


# -- files and arguments ---------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, weights):
    (tmp_path / "net.prototxt").write_text(NET)
    made = Net(str(tmp_path / "net.prototxt"), "TEST")
    for name, arrays in weights.items():
        for blob, array in zip(made.params[name], arrays, strict=True):
            blob.data[...] = array
    made.save(str(tmp_path / "net.caffemodel"))
    np.savez(tmp_path / "x.npz", data=X, label=np.zeros(10))
    return tmp_path


def test_saved_weights_differ_in_the_statistics_alone(files, weights):
    done = bn_stats(files / "net.prototxt", files / "net.caffemodel", {"data": X})
    done.save(files / "new.caffemodel")
    found = read_weights(files / "new.caffemodel")
    for name, arrays in weights.items():
        for i, array in enumerate(arrays):
            expected = done.blobs[name][i] if name in done.blobs else array
            np.testing.assert_array_equal(found[name][i], expected)
    Net(str(files / "net.prototxt"), "TEST", weights=str(files / "new.caffemodel"), strict=True)


def test_weights_given_as_arrays_can_be_saved(files, weights):
    bn_stats(files / "net.prototxt", weights, {"data": X}).save(files / "new.caffemodel")
    Net(str(files / "net.prototxt"), "TEST", weights=str(files / "new.caffemodel"), strict=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(data=None), "waits for its inputs"),
        (dict(data={"x": X}), 'no data for the input "data", found x'),
        (dict(data={"data": X[:, :2]}), "have shape"),
        (dict(data={"data": X}, items=11), "items must be 1 to 10, found 11"),
        (dict(data={"data": X}, method="both"), "method must be one of sweep, layerwise"),
        (dict(data={"data": X * np.nan}), "is not finite on these data"),
    ],
)
def test_refusals(weights, options, message):
    with pytest.raises(ArgumentError, match=message):
        bn_stats(blocks.parse(NET), weights, options.pop("data"), **options)


def test_a_net_without_batch_norm():
    with pytest.raises(ArgumentError, match="has no BatchNorm layer"):
        bn_stats(blocks.parse(data(1, 3, 4, 4) + conv("c", "data")), {})


def test_command(cli, files):
    words = ["bn-stats", files / "net.prototxt", files / "net.caffemodel", "--data", files / "x.npz"]
    result = cli(*words, "-o", files / "new.caffemodel")
    assert result.exit_code == 0
    assert "10 items in one pass" in result.stdout and "accuracy of fc" in result.stdout
    assert (files / "new.caffemodel").exists()
    found = json.loads(cli(*words, "--json", "--method", "layerwise", "--no-score").stdout)
    assert found["passes"] == 3 and [one["name"] for one in found["layers"]] == ["b1", "b2", "b3"]
    assert found["before"] == {}


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["sweep", "layerwise"])
def test_command_on_a_gpu(cli, files, method):
    words = [
        "bn-stats",
        files / "net.prototxt",
        files / "net.caffemodel",
        "--data",
        files / "x.npz",
        "--json",
    ]
    cpu, gpu = (json.loads(cli(*words, "--method", method, *more).stdout) for more in ([], ["--gpu", "0"]))
    assert [one["name"] for one in gpu["layers"]] == [one["name"] for one in cpu["layers"]]
    for name, value in cpu["after"].items():
        assert gpu["after"][name] == pytest.approx(value, rel=1e-4)


def test_command_with_pictures(cli, files):
    image = pytest.importorskip("PIL.Image")
    folder = files / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        image.fromarray(rng.integers(0, 255, (9, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    words = ["bn-stats", files / "net.prototxt", files / "net.caffemodel"]
    one = json.loads(cli(*words, "--data", folder, "--json").stdout)
    assert one["items"] == 3 and one["before"] == {}
    (files / "list.txt").write_text("pictures/0.png 0\npictures/1.png 2\npictures/2.png 1\n")
    two = json.loads(cli(*words, "--data", files / "list.txt", "--json").stdout)
    assert two["layers"] == one["layers"] and "accuracy of fc" in two["before"]
    (files / "list.txt").write_text("pictures/0.png 0\npictures/1.png\n")
    assert "either all lines have a label" in cli(*words, "--data", files / "list.txt").stderr
    (files / "empty").mkdir()
    assert "no pictures are there" in cli(*words, "--data", files / "empty").stderr


def test_layers_of_other_programs_are_left_out_and_named():
    text = data(4, 3, 5, 5) + bn("bn", "data", "y") + layer("PriorBox", "box", "y")
    result = bn_stats(blocks.parse(text), {}, {"data": np.random.default_rng(0).normal(2, 3, (8, 3, 5, 5))})
    assert result.left_out == ["box"] and result.layers[0].name == "bn"
