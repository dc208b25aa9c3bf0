"""The updater: pieces of the flat buffers, clipping, and multipliers that change."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import SolverError
from caffebn.solvers.rules import RULES
from caffebn.solvers.updater import Updater
from tests.solvers.small import message, solver


def calls_of(updater: Updater) -> list[tuple]:
    """Make an updater note what its op is called with."""
    calls: list[tuple] = []
    inner = updater._op

    def op(*args):
        calls.append(args)
        inner(*args)

    updater._op = op
    return calls


def test_one_call_for_each_run_of_equal_multipliers():
    made = solver("weight_decay: 0.5")
    calls = calls_of(made._updater)
    made.step(1)
    # ip1[0] | ip1[1] | the three of bn | scale and ip2
    assert [call[0].size for call in calls] == [40, 8, 17, 16 + 27]
    assert [call[3] for call in calls] == pytest.approx([0.1, 0.2, 0, 0.1])
    assert [call[6] for call in calls] == [0.5, 0, 0.5, 0.5]
    flat = made.net.parameters.data.flat
    assert sum(call[0].size for call in calls) == flat.size
    assert all(np.shares_memory(call[0], flat) for call in calls)


def test_history_is_a_view_of_the_memory_in_use():
    made = solver('type: "Adam"')
    first = made.history
    assert [h.shape for h in first] == [p.blob.shape for p in made.net.parameters] * 2
    made.step(1)
    assert all(np.shares_memory(a, b) for a, b in zip(made.history, first, strict=True))
    assert any(h.any() for h in first)


def gradients_of(clip: float, norm: float, iter_size: int = 1) -> float:
    """The norm of what SGD subtracts, at rate 1, from a gradient of that norm."""
    made = solver(f"clip_gradients: {clip} iter_size: {iter_size}", base_lr="1")
    for p in made.net.parameters:
        p.lr_mult = float(p.lr_mult != 0)
    diff = made.net.parameters.diff.flat
    diff[...] = 0
    made.net.params["ip1"][0].diff[0, 0] = 0.6 * norm
    made.net.params["ip2"][0].diff[0, 0] = 0.8 * norm
    made.apply_update()
    return float(np.sqrt(np.square(diff, dtype="d").sum()))


@pytest.mark.parametrize(
    ("clip", "norm", "iter_size", "expected"),
    [(-1, 5, 1, 5), (2, 5, 1, 2), (5, 4, 1, 4), (0, 5, 1, 0), (2, 5, 4, 0.5), (-1, 5, 4, 1.25), (5, 0, 1, 0)],
)
def test_clipping_sees_the_sum_over_all_passes(clip, norm, iter_size, expected):
    assert gradients_of(clip, norm, iter_size) == pytest.approx(expected, rel=1e-6)


def test_multipliers_may_be_lowered_while_training():
    made = solver(momentum="0.9")
    made.step(2)
    ip1 = [p for p in made.net.parameters if p.layer.name == "ip1"]
    for p in ip1:
        p.lr_mult = 0
    before = [p.blob.data.copy() for p in ip1]
    made.step(1)
    moved = [np.abs(p.blob.data - old).max() for p, old in zip(ip1, before, strict=True)]
    assert all(moved), "momentum goes on"
    made.param.momentum = 0
    made.step(1)
    before = [p.blob.data.copy() for p in ip1]
    made.step(1)
    for p, old in zip(ip1, before, strict=True):
        np.testing.assert_array_equal(p.blob.data, old)


def test_a_rate_where_no_gradient_is_computed():
    made = solver()
    statistics = next(p for p in made.net.parameters if p.layer.type == "BatchNorm")
    statistics.lr_mult = 1
    with pytest.raises(
        SolverError, match=r'layer "bn" \(BatchNorm\): blob 0 has got lr_mult 1, but it was 0 when'
    ):
        made.step(1)


def test_a_train_net_that_looks_at_other_memory():
    made, other = solver(), solver()
    made.net.share_with(other.net)
    for call in (lambda: made.step(1), made.apply_update):
        with pytest.raises(
            SolverError, match=r'layer "ip1" .*: blob 0 no longer lies in the net\'s own memory, so the'
        ):
            call()
    other.step(1)


def test_a_net_without_parameters():
    net = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
    made = type(solver())(message("clip_gradients: 1", net=net))
    made.step(2)
    assert made.iter == 2 and made.history == [] and made.loss == 0


@pytest.mark.parametrize("rule", list(RULES))
def test_rules_name_their_op(rule):
    assert RULES[rule].op == f"update_{rule.lower()}"
    assert RULES[rule].histories == (2 if rule in ("AdaDelta", "Adam", "Nadam") else 1)
