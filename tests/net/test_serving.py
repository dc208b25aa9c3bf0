"""Nets that share their weights run in several threads of Python at once, with the bits of one thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import caffebn
from caffebn.ops import threads

# a layer of every family of kernels that serving needs; large enough for kernels to use their threads
TEXT = """
name: "served"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 8 dim: 33 dim: 31 } } }
layer { name: "norm" type: "LRN" bottom: "data" top: "norm" }
layer { name: "conv" type: "Convolution" bottom: "norm" top: "conv"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "dw" type: "Convolution" bottom: "conv" top: "dw"
        convolution_param { num_output: 16 group: 16 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "one" type: "Convolution" bottom: "dw" top: "one"
        convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "one" top: "sum" }
layer { name: "max" type: "Pooling" bottom: "sum" top: "max" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "ave" type: "Pooling" bottom: "sum" top: "ave"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "both" type: "Concat" bottom: "max" bottom: "ave" top: "both" }
layer { name: "fc" type: "InnerProduct" bottom: "both" top: "fc"
        inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
RUNS = 8


@pytest.fixture
def first() -> caffebn.Net:
    """The net that has the weights."""
    caffebn.set_random_seed(7)
    net = caffebn.Net.from_text(TEXT, caffebn.TEST)
    mean, var, factor = net.params["bn"]
    mean.data[...], var.data[...], factor.data[...] = 0.1, 1.5, 1
    return net


def sharing(first: caffebn.Net) -> caffebn.Net:
    net = caffebn.Net.from_text(TEXT, caffebn.TEST)
    net.share_with(first)
    return net


def requests(server: int) -> list[np.ndarray]:
    rng = np.random.default_rng(server)
    return [rng.normal(size=(2, 8, 33, 31)).astype("f") for _ in range(RUNS)]


@pytest.mark.parametrize("kernel_threads", [1, 2])
@pytest.mark.parametrize("servers", [2, 5])
def test_bits_of_one_thread(monkeypatch, first, servers, kernel_threads):
    monkeypatch.setattr(threads, "_count", 1)
    expected = [[first.forward(data=x)["prob"].copy() for x in requests(i)] for i in range(servers)]

    monkeypatch.setattr(threads, "_count", kernel_threads)
    monkeypatch.setattr(threads, "_SMALL", 0)
    nets = [sharing(first) for _ in range(servers)]
    start = threading.Barrier(servers)

    def serve(i: int) -> list[np.ndarray]:
        start.wait(30)
        return [nets[i].forward(data=x)["prob"].copy() for x in requests(i)]

    with ThreadPoolExecutor(servers) as pool:
        found = list(pool.map(serve, range(servers)))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({array.tobytes() for arrays in found for array in arrays}) == servers * RUNS, "all differ"


def test_no_weights_are_copied(first):
    second = sharing(first)
    for name, blobs in first.params.items():
        for a, b in zip(blobs, second.params[name], strict=True):
            assert np.shares_memory(a.data, b.data)


def test_memory_for_weights_that_are_shared_is_given_back(first):
    second = sharing(first)
    assert first.parameters.data.allocated
    assert not second.parameters.data.allocated

    part = caffebn.Net.from_text(TEXT.replace('name: "conv"', 'name: "other"'), caffebn.TEST)
    part.share_with(first)
    assert part.parameters.data.allocated, "a layer of its own has its weights there"


def test_new_weights_reach_all_nets(first):
    second, x = sharing(first), requests(0)[0]
    first.forward(data=x)
    before = second.forward(data=x)["prob"].copy()
    first.params["fc"][0].data[...] *= 2
    after = second.forward(data=x)["prob"].copy()
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, first.forward(data=x)["prob"])


def test_the_number_of_threads_may_change_between_passes(monkeypatch, first):
    monkeypatch.setattr(threads, "_SMALL", 0)
    x = requests(0)[0]
    results = set()
    for n in (1, 4, 2):
        monkeypatch.setattr(threads, "_count", None)
        caffebn.set_num_threads(n)
        results.add(first.forward(data=x)["prob"].tobytes())
    assert len(results) == 1


def test_two_trainings_at_once(monkeypatch):
    """Nets that share nothing, forward and backward."""
    text = TEXT.replace('layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }', "") + (
        'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }'
    )
    monkeypatch.setattr(threads, "_count", 1)

    def gradients(net: caffebn.Net, i: int) -> list[bytes]:
        found = []
        for x in requests(i):
            net.clear_param_diffs()
            net.forward(data=x, label=np.array([1, i]))
            net.backward()
            found.append(net.parameters.diff.flat.tobytes())
        return found

    def nets() -> list[caffebn.Net]:
        caffebn.set_random_seed(5)
        return [caffebn.Net.from_text(text, caffebn.TRAIN) for _ in range(3)]

    expected = [gradients(net, i) for i, net in enumerate(nets())]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(gradients, nets(), range(3)))
    assert found == expected
