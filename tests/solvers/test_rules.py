"""Each rule against a transcription of its formulas into plain NumPy, in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffebn.errors import SolverError
from caffebn.solvers.rules import RULES
from tests.solvers.small import solver

NET = """
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { lr_mult: 0.5 decay_mult: 3 } param { lr_mult: 2 }
        inner_product_param { num_output: 4 weight_filler { type: "gaussian" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { decay_mult: 0 } param { lr_mult: 0 }
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
"""
MULTIPLIERS = [(0.5, 3), (2, 1), (1, 0), (0, 1)]

SETTINGS = {
    "SGD": "momentum: 0.75",
    "Nesterov": "momentum: 0.75",
    "AdaGrad": "delta: 0.5",
    "RMSProp": "rms_decay: 0.75 delta: 0.5",
    "AdaDelta": "momentum: 0.75 delta: 0.5",
    "Adam": "momentum: 0.75 momentum2: 0.875 delta: 0.5",
    "Nadam": "momentum: 0.75 momentum2: 0.875 delta: 0.5",
}


class Plain:
    """One parameter blob under one rule, with the settings above."""

    def __init__(self, rule: str, w: np.ndarray):
        self.rule = rule
        self.w = w.copy()
        self.a = np.zeros_like(w)
        self.b = np.zeros_like(w)

    def step(self, g: np.ndarray, rate: float, t: int) -> None:
        mu, d, b1, b2, delta = 0.75, 0.75, 0.75, 0.875, 0.5
        if self.rule == "SGD":
            self.a = mu * self.a + rate * g
            self.w = self.w - self.a
        elif self.rule == "Nesterov":
            before, self.a = self.a, mu * self.a + rate * g
            self.w = self.w - ((1 + mu) * self.a - mu * before)
        elif self.rule == "AdaGrad":
            self.a = self.a + g**2
            self.w = self.w - rate * g / (np.sqrt(self.a) + delta)
        elif self.rule == "RMSProp":
            self.a = d * self.a + (1 - d) * g**2
            self.w = self.w - rate * g / (np.sqrt(self.a) + delta)
        elif self.rule == "AdaDelta":
            self.a = mu * self.a + (1 - mu) * g**2
            v = g * np.sqrt((delta + self.b) / (delta + self.a))
            self.b = mu * self.b + (1 - mu) * v**2
            self.w = self.w - rate * v
        else:
            self.a = b1 * self.a + (1 - b1) * g
            self.b = b2 * self.b + (1 - b2) * g**2
            if self.rule == "Adam":
                self.w = self.w - rate * math.sqrt(1 - b2**t) / (1 - b1**t) * self.a / (
                    np.sqrt(self.b) + delta
                )
            else:
                ahead = b1 * self.a / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
                self.w = self.w - rate * ahead / (np.sqrt(b2 * self.b / (1 - b2**t)) + delta)


@pytest.mark.parametrize("device", ["cpu", "reference", pytest.param("gpu", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("regularization", ["L1", "L2"])
@pytest.mark.parametrize("rule", list(RULES))
def test_by_a_plain_transcription(rule, regularization, device):
    """With multipliers, weight decay, iter_size, clipping, and a rate that changes."""
    made = solver(
        f'type: "{rule}" {SETTINGS[rule]} weight_decay: 0.25 regularization_type: "{regularization}" '
        "iter_size: 4 clip_gradients: 8",
        net=NET, options={"device": device, "dtype": "float64"}, base_lr="0.5", lr_policy='"exp" gamma: 0.5',
    )  # fmt: skip
    rng = np.random.default_rng(0)
    blobs = [p.blob for p in made.net.parameters]
    assert len(blobs) == 4
    twins = [Plain(rule, blob.data) for blob in blobs]
    clipped = []
    for i in range(6):
        gradients = [rng.normal(size=b.shape) * (3 if i % 2 else 1) for b in blobs]
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        clipped.append(norm > 8)
        for blob, g in zip(blobs, gradients, strict=True):
            blob.diff[...] = g
        before = [blob.data.copy() for blob in blobs]
        made.apply_update()
        for twin, g, (lr_mult, decay_mult) in zip(twins, gradients, MULTIPLIERS, strict=True):
            decayed = np.sign(twin.w) if regularization == "L1" else twin.w
            total = g * min(1, 8 / norm) / 4 + 0.25 * decay_mult * decayed
            twin.step(total, 0.5 * 0.5**i * lr_mult, i + 1)
        for blob, twin, old in zip(blobs, twins, before, strict=True):
            np.testing.assert_allclose(blob.data, twin.w, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(blob.diff, old - blob.data, rtol=1e-9, atol=1e-14)
    assert True in clipped and False in clipped
    expected = [twin.a for twin in twins]
    if RULES[rule].histories == 2:
        expected += [twin.b for twin in twins]
    for kept, value in zip(made.history, expected, strict=True):
        np.testing.assert_allclose(kept, value, rtol=1e-12, atol=1e-14)
    assert made.iter == 6


def test_the_first_step_of_nadam():
    """Dozat's formulas for t = 1 and a delta of 0: rate (1 + b1 / (1 + b1)) / sqrt(b2), whatever the gradient."""
    made = solver(
        'type: "Nadam" momentum: 0.75 momentum2: 0.25 delta: 0', net=NET, options={"dtype": "float64"}
    )
    gradient = np.random.default_rng(0).normal(size=made.net.parameters.diff.size)
    made.net.parameters.diff.flat[...] = gradient
    blob = made.net.params["b"][0]
    signs = np.sign(blob.diff)
    made.apply_update()
    np.testing.assert_allclose(blob.diff, signs * 0.1 * (1 + 0.75 / 1.75) / 0.5, rtol=1e-7)


@pytest.mark.parametrize(
    ("more", "message_"),
    [
        (
            'type: "AdaGrad" momentum: 0.5',
            r'5:17: type: "AdaGrad" has no momentum: expected momentum 0 or none, found 0.5',
        ),
        ('type: "RMSProp" momentum: 0.9', 'type: "RMSProp" has no momentum'),
        (
            'type: "RMSProp" rms_decay: 1',
            'rms_decay: type: "RMSProp" needs at least 0 and less than 1, found 1',
        ),
        ('type: "AdaDelta" momentum: 1', 'momentum: type: "AdaDelta" needs at least 0 and less than 1'),
        ('type: "Adam" momentum: 1', 'momentum: type: "Adam" needs'),
        ('type: "Adam" momentum2: -0.5', 'momentum2: type: "Adam" needs .* found -0.5'),
        ('type: "Nadam" momentum2: 1', 'momentum2: type: "Nadam" needs'),
    ],
)
def test_refusals(more, message_):
    with pytest.raises(SolverError, match=message_):
        solver(more)


@pytest.mark.parametrize("more", ['type: "AdaGrad" momentum: 0', 'type: "SGD" momentum: 1.5'])
def test_what_caffe_takes_is_taken(more):
    solver(more).step(1)
