"""What pycaffe scripts do, done with ``import caffebn as caffe`` and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import caffebn as caffe
from caffebn import layers as L
from caffebn import params as P


def body(n, classes=5):
    """A small image classifier, as a script would write it."""
    weights = [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]
    n.conv1 = L.Convolution(
        n.data, kernel_size=3, num_output=6, param=weights, weight_filler=dict(type="gaussian", std=0.2),
        bias_filler=dict(type="constant", value=0.1),
    )  # fmt: skip
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.fc6 = L.InnerProduct(n.pool1, num_output=8, param=weights, weight_filler=dict(type="xavier"))
    n.relu6 = L.ReLU(n.fc6, in_place=True)
    n.drop6 = L.Dropout(n.relu6, dropout_ratio=0.5, in_place=True)
    n.fc7 = L.InnerProduct(n.drop6, num_output=classes, param=weights, weight_filler=dict(type="xavier"))
    return n.fc7


def train_net(batch=4):
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[batch, 3, 8, 8]))
    n.label = L.Input(shape=dict(dim=[batch]))
    body(n)
    n.loss = L.SoftmaxWithLoss(n.fc7, n.label)
    n.acc = L.Accuracy(n.fc7, n.label, include=dict(phase=caffe.TEST))
    return n.to_proto()


def deploy_net(batch=4):
    n = caffe.NetSpec()
    n.data = L.Input(input_param=dict(shape=[dict(dim=[batch, 3, 8, 8])]))
    n.prob = L.Softmax(body(n))
    return n.to_proto()


@pytest.fixture
def folder(tmp_path):
    """A folder with train.prototxt, deploy.prototxt and weights, made as scripts make them."""
    caffe.set_random_seed(3)
    with open(tmp_path / "train.prototxt", "w") as f:
        f.write("# made by a script\n")
        f.write(str(train_net()))
    with open(tmp_path / "deploy.prototxt", "w") as f:
        print(deploy_net(), file=f)
    net = caffe.Net(str(tmp_path / "train.prototxt"), caffe.TRAIN)
    net.save(str(tmp_path / "weights.caffemodel"))
    return tmp_path


@pytest.fixture
def net(folder):
    caffe.set_mode_cpu()
    return caffe.Net(str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel"), caffe.TEST)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(10, 3, 8, 8)).astype(np.float32)


def test_train_and_deploy_nets_of_one_spec(folder, net, images):
    trained = caffe.Net(str(folder / "train.prototxt"), str(folder / "weights.caffemodel"), caffe.TEST)
    trained.blobs["data"].data[...] = images[:4]
    trained.blobs["label"].data[...] = np.arange(4)
    out = trained.forward()
    assert set(out) == {"loss", "acc"}
    prob = net.forward(data=images[:4])["prob"]
    np.testing.assert_allclose(out["loss"], -np.log(prob[np.arange(4), np.arange(4)]).mean(), rtol=1e-5)
    assert out["acc"] == (prob.argmax(1) == np.arange(4)).mean()
    assert "acc" not in caffe.Net(str(folder / "train.prototxt"), caffe.TRAIN).blobs


def test_looking_at_shapes(net):
    shapes = {name: blob.data.shape for name, blob in net.blobs.items()}
    assert shapes == {
        "data": (4, 3, 8, 8), "conv1": (4, 6, 6, 6), "pool1": (4, 6, 3, 3), "fc6": (4, 8), "fc7": (4, 5),
        "prob": (4, 5),
    }  # fmt: skip
    assert {k: (v[0].data.shape, v[1].data.shape) for k, v in net.params.items()} == {
        "conv1": ((6, 3, 3, 3), (6,)), "fc6": ((8, 54), (8,)), "fc7": ((5, 8), (5,)),
    }  # fmt: skip
    assert [(net._layer_names[i], layer.type) for i, layer in enumerate(net.layers)][:3] == [
        ("data", "Input"), ("conv1", "Convolution"), ("relu1", "ReLU"),
    ]  # fmt: skip
    blob = net.blobs["conv1"]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (4, 6, 6, 6, 4 * 6 * 36)
    assert list(blob.shape) == [4, 6, 6, 6]


def test_features_of_a_layer(net, images):
    net.blobs["data"].reshape(len(images), 3, 8, 8)
    net.reshape()
    net.blobs["data"].data[...] = images
    net.forward(end="fc6")
    features = net.blobs["fc6"].data.copy()
    assert features.shape == (10, 8) and features.std() > 0
    np.testing.assert_array_equal(net.forward(start="relu6")["prob"], net.forward()["prob"])


def test_forward_all_over_more_items_than_the_batch(net, images):
    out = net.forward_all(blobs=["fc6", "pool1"], data=images)
    assert {name: array.shape for name, array in out.items()} == {
        "prob": (10, 5), "fc6": (10, 8), "pool1": (10, 6, 3, 3),
    }  # fmt: skip
    for i in (0, 4, 9):
        alone = net.forward_all(data=images[i : i + 1])["prob"][0]
        np.testing.assert_allclose(out["prob"][i], alone, rtol=1e-5)


def test_editing_filters(net, images):
    """Filters are plain arrays: set, scaled, zeroed."""
    before = net.forward(data=images[:4])["prob"].copy()
    filters, biases = (blob.data for blob in net.params["conv1"])
    filters[...] = 0
    filters[:, :, 1, 1] = 1 / 3  # a grey picture
    biases[:] = -1.5
    net.forward(data=images[:4])
    np.testing.assert_allclose(
        net.blobs["conv1"].data[:, 0],
        np.maximum(images[:4, :, 1:-1, 1:-1].mean(1) - 1.5, 0),
        rtol=1e-4,
        atol=1e-6,
    )
    net.params["fc7"][0].data[...] *= 0
    assert np.ptp(net.forward()["prob"], axis=0).max() < 1e-7
    assert np.abs(before - net.blobs["prob"].data).max() > 1e-3


def test_casting_a_classifier_into_a_fully_convolutional_net(folder, net):
    """The weights of inner products, put into convolutions, classify every window of a larger picture."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 12, 14]))
    n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=6)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n["fc6-conv"] = L.Convolution(n.pool1, kernel_size=3, num_output=8)
    n.relu6 = L.ReLU(n["fc6-conv"], in_place=True)
    n["fc7-conv"] = L.Convolution(n.relu6, kernel_size=1, num_output=5)
    n.prob = L.Softmax(n["fc7-conv"])
    with open(folder / "full_conv.prototxt", "w") as f:
        f.write(str(n.to_proto()))
    full_conv = caffe.Net(str(folder / "full_conv.prototxt"), str(folder / "weights.caffemodel"), caffe.TEST)
    fc_params = {fc: (net.params[fc][0].data, net.params[fc][1].data) for fc in ("fc6", "fc7")}
    conv_params = {fc: [blob.data for blob in full_conv.params[f"{fc}-conv"]] for fc in fc_params}
    for fc in fc_params:
        conv_params[fc][0].flat = fc_params[fc][0].flat
        conv_params[fc][1][...] = fc_params[fc][1]
    full_conv.save(str(folder / "full_conv.caffemodel"))

    full_conv = caffe.Net(
        str(folder / "full_conv.prototxt"), str(folder / "full_conv.caffemodel"), caffe.TEST
    )
    picture = np.random.default_rng(1).normal(size=(1, 3, 12, 14)).astype(np.float32)
    out = full_conv.forward_all(data=picture)["prob"]
    assert out.shape == (1, 5, 3, 4)
    windows = [picture[0, :, 2 * i : 2 * i + 8, 2 * j : 2 * j + 8] for i in range(3) for j in range(4)]
    alone = net.forward_all(data=np.array(windows))["prob"]
    np.testing.assert_allclose(out[0].reshape(5, 12).T, alone, rtol=1e-5)


def test_transplanting_to_another_net(folder, net):
    """copy_from takes the layers of the same name and leaves the others as they are."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    body(n)
    n.scores = L.InnerProduct(n.drop6, num_output=2, weight_filler=dict(type="xavier"))
    other = caffe.Net(n.to_proto(), caffe.TRAIN)
    fresh = other.params["scores"][0].data.copy()
    other.copy_from(str(folder / "weights.caffemodel"))
    np.testing.assert_array_equal(other.params["fc6"][0].data, net.params["fc6"][0].data)
    np.testing.assert_array_equal(other.params["scores"][0].data, fresh)


def test_merging_batch_norm_into_the_convolution():
    """The usual script: statistics by the factor, then weights and biases changed."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3, 6, 6]))
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, weight_filler=dict(type="msra"))
    n.bn = L.BatchNorm(n.conv, in_place=True, param=[dict(lr_mult=0)] * 3)
    n.scale = L.Scale(n.bn, in_place=True, bias_term=True)
    net = caffe.Net(n.to_proto(), caffe.TEST)
    rng = np.random.default_rng(0)
    for blob, value in zip(net.params["bn"], (rng.normal(size=4), rng.random(4) + 1, 0.5), strict=True):
        blob.data[...] = value
    net.params["scale"][0].data[...], net.params["scale"][1].data[...] = rng.random((2, 4))

    del n.tops["bn"], n.tops["scale"]
    merged = caffe.Net(n.to_proto(), caffe.TEST)
    mean, var, factor = (blob.data for blob in net.params["bn"])
    gamma, beta = (blob.data for blob in net.params["scale"])
    inverse = gamma / np.sqrt(var / factor + 1e-5)
    merged.params["conv"][0].data[...] = net.params["conv"][0].data * inverse[:, None, None, None]
    merged.params["conv"][1].data[...] = (net.params["conv"][1].data - mean / factor) * inverse + beta

    x = rng.normal(size=(2, 3, 6, 6))
    np.testing.assert_allclose(
        merged.forward(data=x)["conv"], net.forward(data=x)["conv"], rtol=1e-4, atol=1e-5
    )


def test_gradient_of_the_input(folder, images):
    """As saliency maps and dreams do: a gradient put in at one layer, taken out at the data."""
    with open(folder / "deploy.prototxt") as f:
        text = "force_backward: true\n" + f.read()
    (folder / "dream.prototxt").write_text(text)
    net = caffe.Net(str(folder / "dream.prototxt"), str(folder / "weights.caffemodel"), caffe.TEST)
    net.blobs["data"].data[...] = images[:4]
    net.forward(end="fc7")
    net.blobs["fc7"].diff[...] = 0
    net.blobs["fc7"].diff[0, 2] = 1
    gradient = net.backward(start="fc7")["data"].copy()
    assert np.abs(gradient[0]).max() > 0 and not gradient[1:].any()
    step = 1e-2 * gradient[0] / np.abs(gradient[0]).max()
    before = net.blobs["fc7"].data[0, 2]
    net.blobs["data"].data[0] += step
    assert net.forward(end="fc7")["fc7"][0, 2] > before


def test_classifying_pictures_with_a_mean_file(folder, net):
    pytest.importorskip("google.protobuf")
    mean = np.full((3, 8, 8), 100, np.float32)
    with open(folder / "mean.binaryproto", "wb") as f:
        f.write(caffe.io.array_to_blobproto(mean[None]).SerializeToString())
    blob = caffe.proto.caffe_pb2.BlobProto()
    blob.ParseFromString((folder / "mean.binaryproto").read_bytes())
    found = np.array(caffe.io.blobproto_to_array(blob))[0]
    np.testing.assert_array_equal(found, mean)

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(folder / "cat.png")
    transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", found.mean(1).mean(1))
    transformer.set_raw_scale("data", 255)
    transformer.set_channel_swap("data", (2, 1, 0))
    net.blobs["data"].reshape(1, 3, 8, 8)
    net.blobs["data"].data[...] = transformer.preprocess("data", caffe.io.load_image(str(folder / "cat.png")))
    by_hand = net.forward()["prob"][0].argsort()[::-1]

    classifier = caffe.Classifier(
        str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel"), mean=found.mean(1).mean(1),
        raw_scale=255, channel_swap=(2, 1, 0),
    )  # fmt: skip
    prediction = classifier.predict([caffe.io.load_image(str(folder / "cat.png"))], oversample=False)
    np.testing.assert_array_equal(prediction[0].argsort()[::-1], by_hand)
    shown = transformer.deprocess("data", net.blobs["data"].data[0])
    assert shown.shape == (8, 8, 3) and 0 <= shown.min() and shown.max() <= 1.001

    detector = caffe.Detector(
        str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel"), mean=found.mean(1).mean(1),
        raw_scale=255, channel_swap=(2, 1, 0), context_pad=1,
    )  # fmt: skip
    detections = detector.detect_windows([(str(folder / "cat.png"), [[0, 0, 10, 10], [5, 5, 20, 30]])])
    assert [d["prediction"].shape for d in detections] == [(5,), (5,)]


def test_records_for_a_database():
    pytest.importorskip("google.protobuf")
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 5), np.uint8)
    value = caffe.io.array_to_datum(image, 7).SerializeToString()
    datum = caffe.proto.caffe_pb2.Datum()
    datum.ParseFromString(value)
    assert datum.label == 7
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), image)


def test_editing_a_prototxt_by_its_messages(folder):
    text_format = pytest.importorskip("google.protobuf.text_format")
    from caffebn.proto import caffe_pb2

    net = caffe_pb2.NetParameter()
    text_format.Merge((folder / "train.prototxt").read_text(), net)
    for layer in net.layer:
        if layer.type == "InnerProduct":
            layer.param[0].lr_mult = 0
    (folder / "frozen.prototxt").write_text(text_format.MessageToString(net))
    assert len(caffe.Net(str(folder / "frozen.prototxt"), caffe.TRAIN).params) == 3

    caffe.draw.draw_net_to_file(net, str(folder / "net.dot"), "TB", phase=caffe.TEST)
    assert "SoftmaxWithLoss" in (folder / "net.dot").read_text()


def test_changing_what_to_proto_gave():
    proto = train_net()
    proto.name = "deploy"
    del proto.layer[:2], proto.layer[-2:]
    proto.input.extend(["data"])
    proto.input_shape.add().dim.extend([1, 3, 8, 8])
    net = caffe.Net(proto, caffe.TEST)
    assert (net.name, net.inputs, net.outputs) == ("deploy", ["data"], ["fc7"])


def test_a_fully_convolutional_net_cut_to_its_input():
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 20, 24]))
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, pad=10)
    n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.score = L.Convolution(n.pool, num_output=2, kernel_size=1)
    n.up = L.Deconvolution(
        n.score,
        convolution_param=dict(num_output=2, kernel_size=4, stride=2, bias_term=False),
        param=[dict(lr_mult=0)],
    )
    n.cut = caffe.coord_map.crop(n.up, n.data)
    (crop,) = (layer for layer in n.to_proto().layer if layer.type == "Crop")
    assert crop.crop_param.axis == 2 and list(crop.crop_param.offset) == [10]


def test_random_seed_repeats_fillers():
    def weights():
        caffe.set_random_seed(7)
        return caffe.Net(train_net(), caffe.TRAIN).params["fc6"][0].data.copy()

    np.testing.assert_array_equal(weights(), weights())


def test_names_of_the_module():
    names = """Net Blob Layer Classifier Detector NetSpec layers params to_proto io draw coord_map proto TRAIN TEST
        set_mode_cpu set_mode_gpu set_device set_random_seed layer_type_list init_log log __version__"""
    assert [name for name in names.split() if not hasattr(caffe, name)] == []
    assert (caffe.TRAIN, caffe.TEST) == (0, 1)
    assert "Convolution" in caffe.layer_type_list()
