"""From the blobs and fields of a dialect to what they mean, and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffebn.dialects.facts import Facts
from caffebn.dialects.table import Dialect, live_factor, numbers
from caffebn.errors import NetError

__all__ = ["Meaning", "blobs_of", "fields_of", "meaning"]


@dataclass
class Meaning:
    """What a layer computes, in the terms of a BatchNorm and a Scale.

    ``y = (x - S_m / f) / sqrt(S_v / f + eps) * scale + shift``

    Attributes
    ----------
    sums : list of ndarray or None
        Sum of means, sum of variances, factor: BatchNorm's blobs.  None when there are no weights.
    scale, shift : ndarray or None
    scales, shifts : bool
        Whether there is a scale and a shift at all.
    eps, fraction : float
    use_global_stats : bool or None
    normalises : bool
        False for a layer that only scales and shifts.
    relu : bool
        A ReLU follows inside the layer.
    frozen : bool
        Scale and shift are not learned.
    fillers : dict
        Of scale and shift, by "scale" and "shift".
    lost : list of str
        What cannot be said in these terms.
    """

    sums: list[np.ndarray] | None = None
    scale: np.ndarray | None = None
    shift: np.ndarray | None = None
    scales: bool = True
    shifts: bool = True
    eps: float = 1e-5
    fraction: float = 0.999
    use_global_stats: bool | None = None
    normalises: bool = True
    relu: bool = False
    frozen: bool = False
    fillers: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance in float64; 0 for a factor of 0, as Caffe takes it."""
        assert self.sums is not None
        mean, var, factor = (a.reshape(-1).astype(np.float64) for a in self.sums)
        f = 0.0 if factor[0] == 0 else 1 / factor[0]
        return mean * f, var * f


def effective_fields(facts: Facts, d: Dialect) -> dict[str, Any]:
    """The layer's parameters by name: the text's, or without a text those of the weights file."""
    if facts.from_text:
        return facts.fields
    by_number = {name: kind(facts.numbered[n]) for name, (n, kind) in numbers(d.id).items()
                 if n in facts.numbered and not isinstance(facts.numbered[n], bytes)}  # fmt: skip
    return facts.fields | by_number


def meaning(facts: Facts, d: Dialect, live: bool = True) -> Meaning:
    """Say what a layer of that dialect computes.

    Parameters
    ----------
    facts : Facts
    d : Dialect
    live : bool
        Give direct statistics the factor 1 / (1 - fraction), with which training goes on as an average of the same
        length; else 1.

    Raises
    ------
    NetError
        Another number of blobs than the dialect has, or blobs of different sizes.
    """
    fields = effective_fields(facts, d)
    m = Meaning(lost=list(d.lost))
    m.eps = float(fields.get(d.eps_field, d.eps)) if d.eps_field else d.eps
    m.eps = max(m.eps, d.eps_least)
    shaped_by_cudnn = facts.blobs is not None and len(facts.blobs) > 0 and facts.blobs[0].ndim == 4
    cudnn = str(fields.get("engine")) in ("CUDNN", "2") or (d.id == "nvcaffe-0.15" and shaped_by_cudnn)
    if cudnn and d.id in ("yjxiong-c", "pspnet", "nvcaffe-0.15"):
        m.eps = max(m.eps, 1e-5)
    m.fraction = d.fraction
    if d.fraction_field in fields:
        given = float(fields[d.fraction_field])
        m.fraction = 1 - given if d.weighs_new else given
    m.use_global_stats = _which_statistics(fields, d, m)
    m.normalises = d.statistics != "affine"
    m.relu = bool(fields.get("relu") or fields.get("fused_relu"))
    m.frozen = fields.get("frozen") is True
    if "stats_batch_size" not in fields:
        m.lost = [what for what in m.lost if what != "stats_batch_size"]
    if "update_global_stats" in fields:
        m.lost.append("update_global_stats, which matters in training alone")
    for which, names in (
        ("scale", ("scale_filler", "slope_filler", "filler")),
        ("shift", ("shift_filler", "bias_filler")),
    ):
        given_fillers = [fields[name] for name in names if isinstance(fields.get(name), dict)]
        if given_fillers:
            m.fillers[which] = given_fillers[0]
    if facts.blobs is None or not facts.count:
        _affine_of_text(m, fields, d)
        return m
    order = d.order(facts.count)
    if order is None:
        wanted = " or ".join(str(len(o)) for o in d.orders)
        raise NetError(
            f'layer "{facts.name}" ({facts.type}): dialect "{d.id}" has {wanted} blobs, the file {facts.count}'
        )
    m.scales, m.shifts = "s" in order or "t" in order, "t" in order
    _read_blobs(m, facts, d, order, fields, live)
    return m


def _which_statistics(fields: dict[str, Any], d: Dialect, m: Meaning) -> bool | None:
    if d.statistics == "batch":
        return False
    given = fields.get("use_global_stats")
    if d.statistics == "phase only":
        if given is not None:
            m.lost.append("use_global_stats of the text, which NVCaffe does not read: the phase decides")
        return None
    if d.type == "BatchNorm":
        return given
    if fields.get("frozen") is True:
        return True
    return False if fields.get("moving_average") is False else None


def _affine_of_text(m: Meaning, fields: dict[str, Any], d: Dialect) -> None:
    """Whether there are scale and shift, where only the text can tell."""
    if d.type == "BN" or d.id in ("nvcaffe-0.14", "nvcaffe-0.14-inv", "nvcaffe-0.15"):
        return
    if d.id == "nvcaffe-0.16":
        m.scales = m.shifts = bool(fields.get("scale_bias") or m.fillers)
    elif d.id == "intel":
        m.scales = fields.get("use_weight_bias", True) is not False and str(fields.get("engine")) not in (
            "CAFFE",
            "1",
        )
        m.shifts = m.scales and fields.get("bias_term", True) is not False
    else:
        m.scales = m.shifts = False


def _read_blobs(m: Meaning, facts: Facts, d: Dialect, order: str, fields: dict[str, Any], live: bool) -> None:
    assert facts.blobs is not None
    by_letter = {
        letter: np.asarray(blob).reshape(-1) for letter, blob in zip(order, facts.blobs, strict=True)
    }
    channels = by_letter[order.strip("-f")[0]].size
    for letter, blob in by_letter.items():
        expected = 1 if letter == "f" else channels
        if blob.size != expected and letter != "-":
            raise NetError(
                f'layer "{facts.name}" ({facts.type}): dialect "{d.id}" expects {expected} values in blob '
                f"{order.index(letter)}, found {blob.size}"
            )
    m.scale, m.shift = by_letter.get("s"), by_letter.get("t")
    if m.scales and m.scale is None:
        m.scale = np.ones(channels, np.float32)
    if d.statistics == "affine":
        return
    if "M" not in by_letter:  # nothing is stored: statistics are those of the batch
        m.sums = [np.zeros(n, np.float32) for n in (channels, channels, 1)]
        m.use_global_stats = False
        return
    if d.live:
        m.sums = _live_sums(m, by_letter, fields)
        return
    mean = by_letter["M"].astype(np.float64)
    if "I" in by_letter:
        # an average of 1/sqrt(v + eps) is never above 1/sqrt(eps): what is below 0 here is rounding
        var = np.maximum(1 / by_letter["I"].astype(np.float64) ** 2 - m.eps, 0)
    else:
        var = by_letter["V"].astype(np.float64)
    f = live_factor(m.fraction) if live and m.use_global_stats is None else np.float32(1)
    m.sums = [(mean * f).astype(np.float32), (var * f).astype(np.float32), np.array([f], np.float32)]


def _live_sums(m: Meaning, by_letter: dict[str, np.ndarray], fields: dict[str, Any]) -> list[np.ndarray]:
    """Sums stay as they are, but for what the fork computes otherwise."""
    mean, factor = by_letter["M"], by_letter.get("f", np.ones(1, np.float32))
    f = float(factor[0])
    if "Q" in by_letter:
        centred = by_letter["Q"].astype(np.float64) - (mean.astype(np.float64) ** 2 / f if f else 0)
        return [mean, np.maximum(centred, 0).astype(np.float32), factor]
    var = by_letter["V"]
    if fields.get("disable_mean") is True:
        mean = np.zeros_like(mean)
        m.lost.append("disable_mean in training: the mean is stored as 0 for the phase TEST")
        m.use_global_stats = True
    if fields.get("disable_variance") is True:
        var = np.full_like(var, f * (1 - m.eps))
        m.lost.append("disable_variance in training: the variance is stored as 1 - eps for the phase TEST")
        m.use_global_stats = True
    if fields.get("add_eps_before_sqrt") is False:
        deviation = np.sqrt(var.astype(np.float64) / f) if f else np.zeros_like(var)
        var = ((deviation + m.eps) ** 2 * (f or 1)).astype(np.float32)
        factor = factor if f else np.ones(1, np.float32)
        m.eps = 0.0
        m.lost.append("add_eps_before_sqrt: false in training: eps is inside the variance now")
    return [mean, var, factor]


# -- back


def blobs_of(m: Meaning, d: Dialect, name: str) -> list[np.ndarray]:
    """Blobs of a layer of that dialect that computes `m`; adds to ``m.lost`` what cannot be said.

    Raises
    ------
    NetError
        The dialect has no such layer.
    """
    assert m.sums is not None
    channels = m.sums[0].size
    mean, var = m.statistics()
    order = _order_for(m, d, name)
    eps = _written_eps(m, d)
    slope = np.ones(channels) if m.scale is None else m.scale.astype(np.float64).reshape(-1)
    shift = np.zeros(channels) if m.shift is None else m.shift.astype(np.float64).reshape(-1)
    if d.statistics == "affine":
        factor = slope / np.sqrt(var + m.eps)
        slope, shift = factor, shift - factor * mean
    if d.statistics != "affine" and not m.eps == eps and "V" in order:
        moved = var + m.eps - eps
        if np.any(moved < 0):
            m.lost.append(f"eps {m.eps:g} becomes {eps:g}, which changes channels of little variance")
        var = np.maximum(moved, 0)
    f = float(m.sums[2].reshape(-1)[0])
    inverse = 1 / np.sqrt(np.maximum(m.statistics()[1] + m.eps, np.finfo(np.float32).tiny))
    values: dict[str, np.ndarray] = {
        "M": mean, "V": var, "s": slope, "t": shift, "f": np.ones(1), "I": inverse,
        "-": np.ones(1) if d.id == "nvcaffe-0.16" else np.zeros(1),
    }  # fmt: skip
    if d.live:
        second = var * f + mean * mean * f
        values |= {"M": m.sums[0], "V": var * f, "Q": second, "f": m.sums[2]}
        if m.eps == eps:
            values["V"] = m.sums[1]
    made = []
    for letter in order:
        flat = np.asarray(values[letter], np.float32).reshape(-1)
        shape = {1: (flat.size,), 2: (1, flat.size), 4: (1, flat.size, 1, 1)}[d.axes]
        made.append(flat.reshape(shape))
    return made


def _order_for(m: Meaning, d: Dialect, name: str) -> str:
    for order in sorted(d.orders, key=len):
        if (
            ("s" in order or not m.scales)
            and ("t" in order or not m.shifts)
            and ("M" in order or m.use_global_stats is False)
        ):
            return order
    if d.statistics in ("batch", "affine"):
        return d.orders[0]
    raise NetError(
        f'layer "{name}": dialect "{d.id}" has no room for a scale: keep the Scale layer behind it'
    )


def _written_eps(m: Meaning, d: Dialect) -> float:
    return max(m.eps, d.eps_least) if d.eps_field else d.eps


def fields_of(m: Meaning, d: Dialect, name: str) -> dict[str, Any]:
    """Fields of a layer of that dialect that computes `m`.

    Raises
    ------
    NetError
        The dialect cannot say which statistics are used.
    """
    fields: dict[str, Any] = {}
    if d.eps_field:
        eps = _written_eps(m, d)
        if eps != d.eps:
            fields[d.eps_field] = eps
    if d.fraction_field and (m.fraction != d.fraction or d.weighs_new):
        fields[d.fraction_field] = 1 - m.fraction if d.weighs_new else m.fraction
    elif not d.fraction_field:
        m.lost.append("moving_average_fraction")
    if d.id == "segnet-inference":
        if m.use_global_stats is False:
            raise NetError(
                f'layer "{name}": it uses the statistics of the batch, of which "{d.id}" has none: use segnet-learn'
            )
        m.lost.append("the statistics themselves: they are in scale and shift")
        return {"bn_mode": "INFERENCE"}
    if d.id == "segnet-learn":
        if m.use_global_stats is not False:
            m.lost.append("THE STORED STATISTICS: the net computes something else, with those of each batch")
        return {"bn_mode": "LEARN"}
    if d.id == "yjxiong-a":
        fields["moving_average"] = True  # what tells it from its successors
    _say_statistics(m, d, name, fields)
    if d.id == "nvcaffe-0.16" and m.scales:
        fields["scale_bias"] = True
    if d.id == "intel":
        fields["use_weight_bias"], fields["bias_term"] = m.scales, m.shifts
    return fields


def _say_statistics(m: Meaning, d: Dialect, name: str, fields: dict[str, Any]) -> None:
    if m.use_global_stats is None:
        return
    if d.statistics == "phase" and d.type == "BatchNorm":
        fields["use_global_stats"] = m.use_global_stats
    elif m.use_global_stats and d.id in ("yjxiong-a", "yjxiong-b", "yjxiong-c", "pspnet"):
        fields["frozen"] = True
    elif m.use_global_stats:
        m.lost.append("use_global_stats: true in training")
    elif "moving_average" in numbers(d.id):
        fields["moving_average"] = False
    else:
        raise NetError(f'layer "{name}": use_global_stats: false cannot be said in dialect "{d.id}"')
