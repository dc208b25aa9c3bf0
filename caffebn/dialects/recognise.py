"""Which dialect the layers of a net are in: a verdict, what it rests on, and what speaks against it.

The whole net is looked at, not one layer: layers of one type with the same number of blobs get one verdict,
unless their own text says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caffebn.dialects.facts import Facts
from caffebn.dialects.table import DIALECTS, PLAIN, dialect
from caffebn.errors import ArgumentError

__all__ = ["Verdict", "recognise"]


@dataclass
class Verdict:
    """What a layer is taken for.

    Attributes
    ----------
    layer : str
    dialect : str
        An id of `DIALECTS`; the likeliest one when there are several.
    certain : bool
        Nothing has to be asked.
    evidence : list of str
        What it rests on.
    doubt : list of str
        What speaks against it, or cannot be known.
    choices : list of str
        The dialects that it may be when not certain.
    """

    layer: str
    dialect: str
    certain: bool = True
    evidence: list[str] = field(default_factory=list)
    doubt: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)


@dataclass
class _Case:
    """A group of layers on its way to a verdict."""

    group: list[Facts]
    names: list[str]
    evidence: list[str] = field(default_factory=list)
    doubt: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)

    def fields(self) -> set[str]:
        """Names of all fields that any layer of the group has."""
        return {name for facts in self.group for name in facts.fields}

    def because(self, id: str, *evidence: str) -> str:
        self.evidence += evidence
        return id

    def ask(self, likely: str, choices: Sequence[str], *doubt: str) -> str:
        self.doubt += doubt
        self.choices = list(dict.fromkeys([likely, *choices]))
        return likely


def recognise(
    found: Sequence[Facts], as_: str | Mapping[str, str] | None = None, names: Sequence[str] = ()
) -> list[Verdict]:
    """Say which dialect each layer is in.

    Parameters
    ----------
    found : sequence of Facts
    as_ : str or mapping, optional
        The dialect of all layers whose type and number of blobs it fits, or dialects by layer name.
    names : sequence of str
        Names of the files, which can be evidence.

    Returns
    -------
    list of Verdict
        One for each layer.

    Raises
    ------
    ArgumentError
        `as_` names an unknown dialect or layer, or one that fits no layer.
    """
    told = _told(found, as_)
    groups: dict[tuple, list[Facts]] = {}
    for facts in found:
        if facts.name not in told:
            groups.setdefault(
                (facts.type, facts.count if facts.blobs is not None else -1, facts.number), []
            ).append(facts)
    verdicts = dict(told)
    for group in groups.values():
        for part in _split_by_text(group):
            case = _Case(part, list(names))
            id = (_batch_norm if part[0].type == "BatchNorm" else _bn)(case, found)
            for facts in part:
                verdicts[facts.name] = Verdict(
                    facts.name,
                    id,
                    not case.choices,
                    list(case.evidence),
                    list(case.doubt),
                    list(case.choices),
                )
    return [verdicts[facts.name] for facts in found]


def _told(found: Sequence[Facts], as_: str | Mapping[str, str] | None) -> dict[str, Verdict]:
    if as_ is None:
        return {}
    if isinstance(as_, Mapping):
        unknown = set(as_) - {facts.name for facts in found}
        if unknown:
            raise ArgumentError(f'no layer "{min(unknown)}" normalises: it cannot be given a dialect')
        chosen = {name: dialect(id) for name, id in as_.items()}
    else:
        wanted = dialect(as_)
        chosen = {facts.name: wanted for facts in found if _fits(facts, wanted.id)}
        if found and not chosen:
            raise ArgumentError(
                f'dialect "{as_}": no layer fits it, which has type {wanted.type} and '
                f"{' or '.join(str(len(order)) for order in wanted.orders)} blobs"
            )
    return {name: Verdict(name, d.id, evidence=["as told"]) for name, d in chosen.items()}


def _fits(facts: Facts, id: str) -> bool:
    wanted = DIALECTS[id]
    same_type = (facts.type == "BatchNorm") == (wanted.type == "BatchNorm")
    return same_type and (facts.blobs is None or wanted.order(facts.count) is not None)


def _split_by_text(group: list[Facts]) -> list[list[Facts]]:
    """SegNet's bn_mode is said layer by layer."""
    parts: dict[str, list[Facts]] = {}
    for facts in group:
        parts.setdefault(str(facts.fields.get("bn_mode", "")), []).append(facts)
    return list(parts.values())


# -- type BatchNorm

_INTEL = {"use_weight_bias", "stats_batch_size", "relu", "bias_term", "filler"}


def _batch_norm(case: _Case, found: Sequence[Facts]) -> str:
    by_text = _batch_norm_text(case)
    count = case.group[0].count
    if case.group[0].blobs is None:
        return by_text or case.because(PLAIN, "nothing in the text says otherwise")
    if count in (0, 3):
        return _three_blobs(case, by_text)
    if count == 5:
        return _five_blobs(case, by_text, found)
    if count == 4:
        if all(facts.blobs and facts.blobs[2].size == 1 < facts.channels for facts in case.group):
            if by_text == "intel":
                return case.because("intel", "4 blobs with one value in the third: scale without shift")
            return case.ask(
                "intel", ["intel", "mvfs", "mvft"],
                "4 blobs with one value in the third: Intel Caffe writes a scale behind it when bias_term is "
                "false; files "
                "with a shift there have been seen, too",
            )  # fmt: skip
        return case.ask(
            "mvst", ["mvst"], "4 blobs, of which none is a factor: no writer of such files is known"
        )
    if count == 2:
        return case.ask(
            "mv", ["mv"], "2 blobs: mean and variance without a factor, as no released Caffe writes them"
        )
    return case.ask(PLAIN, [], f"{count} blobs: no dialect has so many")


def _batch_norm_text(case: _Case) -> str | None:
    fields = case.fields()
    engines = {str(facts.fields.get("engine")) for facts in case.group}
    if fields & {"disable_mean", "disable_variance"}:
        return case.because("happynear-ms", "disable_mean or disable_variance in the text")
    if fields & {"add_eps_before_sqrt", "icnet"}:
        return case.because("synopsys", "add_eps_before_sqrt or icnet in the text")
    if fields & _INTEL or engines & {"MKL2017", "MKLDNN"}:
        return case.because("intel", "fields of Intel Caffe in the text")
    if "scale_bias" in fields:
        return case.because("nvcaffe-0.16", "scale_bias in the text")
    if fields & {"scale_filler", "bias_filler"}:
        case.evidence.append("scale_filler or bias_filler in the text: NVCaffe")
        if case.group[0].blobs is None:
            return case.ask(
                "nvcaffe-0.16", ["nvcaffe-0.15", "nvcaffe-0.14", "nvcaffe-0.14-inv"],
                "all versions of NVCaffe have this text; the blobs would tell which",
            )  # fmt: skip
    return None


def _three_blobs(case: _Case, by_text: str | None) -> str:
    blobs = [facts.blobs for facts in case.group if facts.blobs]
    if by_text in ("happynear-ms", "synopsys", "intel"):
        return by_text
    factors = [float(b[2].reshape(-1)[0]) for b in blobs if b[2].size]
    zero_but_stored = [b for b in blobs if not np.any(b[2]) and (np.any(b[0]) or np.any(b[1]))]
    if zero_but_stored and not any(factors):
        return case.because(
            "nvcaffe-0.16",
            "the factor is 0 although statistics are stored, which BVLC Caffe cannot write and NVCaffe 0.16.0 to "
            "0.16.4 did",
        )
    if any(facts.marks_nvcaffe for facts in case.group) and all(f in (0.0, 1.0) for f in factors):
        return case.because("nvcaffe-0.16", "number types in LayerParameter 145 to 148")
    if any(0 < f < 1 for f in factors):
        case.doubt.append(
            "a factor between 0 and 1, which no known program writes; it is divided by, as Caffe does"
        )
    if any(f > 1 for f in factors):
        case.evidence.append(f"a live factor ({max(factors):.6g})")
        if _second_moments_possible(blobs):
            case.doubt.append(
                "blob 1 could also be the second moment, as BVLC Caffe wrote it in a few weeks of 2015 (bvlc-2015)"
            )
    elif not np.isfinite(factors).all():
        case.doubt.append("a factor that is no number: training has diverged, or the file is damaged")
    elif factors and all(f == 1 for f in factors):
        case.evidence.append("the factor is 1: the statistics themselves")
    elif factors:
        case.evidence.append("untrained: factor and statistics are 0")
    return case.because(PLAIN, "3 blobs")


def _second_moments_possible(blobs: Sequence[list[np.ndarray]]) -> bool:
    """Whether no channel rules out that blob 1 holds E[x^2], which is never below the squared mean."""
    for mean, second, factor in blobs:
        f = float(factor.reshape(-1)[0]) or 1.0
        m, q = mean.reshape(-1).astype(np.float64) / f, second.reshape(-1).astype(np.float64) / f
        if np.any(m * m > q * (1 + 1e-5)):
            return False
    return True


def _five_blobs(case: _Case, by_text: str | None, found: Sequence[Facts]) -> str:
    places = {_single(facts) for facts in case.group} - {None}
    if not places:  # one channel everywhere: other layers of the net may tell
        places = {_single(facts) for facts in found if facts.count == 5} - {None}
    if len(places) > 1:
        return case.ask(
            PLAIN,
            ["nvcaffe-0.14", "nvcaffe-0.15", "nvcaffe-0.16", "intel"],
            "the layers have their factor in different places",
        )
    if not places:
        if by_text in ("intel", "nvcaffe-0.16"):
            return by_text
        if any(facts.marks_nvcaffe for facts in found):
            return case.because("nvcaffe-0.16", "number types in LayerParameter 145 to 148")
        return case.ask(
            "nvcaffe-0.16", ["nvcaffe-0.14", "nvcaffe-0.15", "intel"],
            "all blobs have one value, so that their shapes say nothing of their order",
        )  # fmt: skip
    place = places.pop()
    if place == 4:
        return case.because("nvcaffe-0.15", "5 blobs with one value in the last")
    case.evidence.append("5 blobs with one value in the third")
    first = _first_pair(case)
    if first == "scale":
        return _variance_or_inverse(
            case, "nvcaffe-0.14", "nvcaffe-0.14-inv", 1e-4, [facts.blobs[4] for facts in case.group if facts.blobs],
            [facts.blobs[3] for facts in case.group if facts.blobs],
        )  # fmt: skip
    if first is None:
        return case.ask(
            "nvcaffe-0.16", ["intel", "nvcaffe-0.14", "nvcaffe-0.14-inv"],
            "neither shapes nor signs say whether mean and variance or scale and shift come first",
        )  # fmt: skip
    factors = [float(facts.blobs[2].reshape(-1)[0]) for facts in case.group if facts.blobs]
    if any(f > 1 for f in factors):
        return case.because("intel", f"a live factor ({max(factors):.6g})")
    if by_text in ("intel", "nvcaffe-0.16"):
        return by_text
    if any(facts.marks_nvcaffe for facts in found):
        return case.because("nvcaffe-0.16", "number types in LayerParameter 145 to 148")
    return case.because("nvcaffe-0.16", f"the third blob holds {max(factors):g}, no factor of sums")


def _single(facts: Facts) -> int | None:
    """Which of 5 blobs has one value while others have more."""
    sizes = [blob.size for blob in facts.blobs or ()]
    return sizes.index(1) if sizes.count(1) == 1 else None


def _first_pair(case: _Case) -> str | None:
    """Whether blobs 0 and 1 of 5 are "statistics" or "scale" and shift."""
    shaped = [facts for facts in case.group if facts.shapes_tell]
    axes = {blob.ndim for facts in shaped for blob in (facts.blobs or ())[:2]}
    # values tell: a variance is never negative, a shift mostly is somewhere
    one, four = (any(np.any(facts.blobs[i] < 0) for facts in case.group if facts.blobs) for i in (1, 4))
    if one and not four:
        return case.because("scale", "negative values in blob 1, which is then no variance")
    if four and not one:
        return case.because("statistics", "negative values in blob 4, which is then no variance")
    if axes == {4} and shaped:
        return case.because("scale", "blobs of the shape (1, C, 1, 1): NVCaffe 0.14 with cuDNN")
    if axes == {1}:
        return case.because("statistics", "blobs of the shape (C)")
    return None


# -- type BN

_YJXIONG = {"slope_filler", "momentum", "frozen"}
_DUCHA = {"var_eps", "decay"}


def _bn(case: _Case, found: Sequence[Facts]) -> str:
    facts, fields, number = case.group[0], case.fields(), case.group[0].number
    if "bn_mode" in fields:
        mode = str(facts.fields["bn_mode"])
        return case.because(
            "segnet-inference" if mode in ("INFERENCE", "1") else "segnet-learn",
            f"bn_mode: {mode} in the text",
        )
    if "moving_average" in fields and fields & (_YJXIONG | {"eps"}):
        return case.because("yjxiong-a", "moving_average beside momentum or eps in the text")
    if fields & _DUCHA:
        return _ducha_or_happynear(case)
    if fields & _YJXIONG or "eps" in fields:
        return _yjxiong(case, "slope_filler, momentum, eps or frozen in the text")
    if facts.type == "SyncBN":
        return case.because("yjxiong-c", "type SyncBN")
    if number is not None and facts.numbered:
        by_number = _bn_number(case)
        if by_number is not None:
            return by_number
    if facts.count == 4:
        return _four_blobs(case)
    if facts.count == 2:
        return _two_blobs(case)
    if facts.blobs is None or facts.count == 0:
        return _bn_text_alone(case, fields)
    return case.ask("yjxiong-c", [], f"{facts.count} blobs: no dialect of BN has so many")


def _bn_number(case: _Case) -> str | None:
    """What the embedded parameters say: their place in LayerParameter and the wire types of their fields."""
    facts = case.group[0]
    values = facts.numbered
    said = f"parameters at number {facts.number} of LayerParameter"
    if facts.number == 45:
        return (
            _two_blobs(case, said)
            if facts.count <= 2
            else case.because("pspnet", said, "4 blobs: synopsys, as PSPNet")
        )
    if facts.number == 152:
        return case.because("pspnet", said)
    if facts.number == 202:
        return case.because("ducha-aiki", said) if facts.count == 4 else case.because("segnet-learn", said)
    if facts.number == 200:
        return case.because(
            "yjxiong-b", f"{said}: happynear/caffe-windows, branch ms, which stores 1/deviation"
        )
    if facts.number == 139:
        return case.because("happynear", said)
    if facts.number == 137:
        if isinstance(values.get(3), int) or isinstance(values.get(5), float) or facts.count == 2:
            return case.because("yjxiong-a", said, "its field 3 is a bool, or field 5 a number")
        return _yjxiong(case, said)
    return None


def _bn_text_alone(case: _Case, fields: set[str]) -> str:
    if fields & {"shift_filler", "scale_filler"}:
        return case.because(
            "segnet-learn", "scale_filler and shift_filler alone in the text: statistics of the batch"
        )
    return case.ask(
        "yjxiong-c", ["yjxiong-b", "pspnet", "segnet-learn", "segnet-inference"],
        "the text does not say more than the type; blobs would tell",
    )  # fmt: skip


def _two_blobs(case: _Case, said: str = "2 blobs") -> str:
    facts = case.group[0]
    if facts.shapes_tell and facts.blobs and all(blob.ndim == 2 for blob in facts.blobs):
        return case.because("yjxiong-a", "2 blobs of the shape (1, C): moving_average was false")
    text = case.fields()
    if facts.numbered.get(3) == 1:
        return case.because("segnet-inference", said, "bn_mode: INFERENCE in the weights file")
    if any(f.extra_tops for f in case.group):
        return case.because(
            "segnet-inference",
            said,
            "tops for mean and variance, as the script that computes statistics makes them",
        )
    if text & {"shift_filler", "scale_filler"}:  # the text has no bn_mode, whose default is LEARN
        return case.because("segnet-learn", said, "no bn_mode in the text, which means LEARN")
    return case.ask(
        "segnet-learn", ["segnet-inference"],
        "2 blobs hold scale and shift, of the batch's statistics or of none: the prototxt's bn_mode would tell; "
        "the one in "
        "the weights file says LEARN even behind the script that computes statistics",
    )  # fmt: skip


def _four_blobs(case: _Case) -> str:
    shaped = [facts for facts in case.group if facts.shapes_tell]
    axes = {blob.ndim for facts in shaped for blob in facts.blobs or ()}
    if axes == {2}:
        return _yjxiong(case, "4 blobs of the shape (1, C)")
    if axes == {4} and "shift_filler" in case.fields():
        return _ducha_or_happynear(case)
    return case.ask(
        "pspnet", ["ducha-aiki", "happynear", "yjxiong-c", "yjxiong-b"],
        "4 blobs hold scale, shift, mean and variance in all of these; they differ in eps (1e-5 or 1e-10) and in "
        "training",
    )  # fmt: skip


def _ducha_or_happynear(case: _Case) -> str:
    number = case.group[0].number
    if number in (202, 139):
        return case.because(
            "ducha-aiki" if number == 202 else "happynear", f"parameters at number {number} of LayerParameter"
        )
    case.evidence.append("shift_filler with var_eps or decay in the text")
    if all(facts.fields.get("moving_average") is False for facts in case.group):
        return case.because(
            "happynear", "moving_average: false, statistics of the batch: both compute the same"
        )
    decays = {facts.fields["decay"] for facts in case.group if "decay" in facts.fields}
    if decays == {0.5}:
        return case.because("happynear", "decay 0.5 means the same in both")
    return case.ask(
        "ducha-aiki", ["happynear"],
        "both have this text and compute the same in the phase TEST; decay weighs the new batch in ducha-aiki's "
        "and the "
        "old average in happynear's, which decides how training goes on",
    )  # fmt: skip


def _yjxiong(case: _Case, said: str) -> str:
    case.evidence.append(said)
    group = [facts for facts in case.group if facts.count == 4 and facts.blobs]
    if not group:
        if any(facts.count == 2 for facts in case.group):
            return case.because("yjxiong-a", "2 blobs: moving_average was false")
        if case.group[0].blobs is None:
            return case.because("yjxiong-c", "no weights: both kinds are trained alike")
        return case.ask(
            "yjxiong-c",
            ["yjxiong-b"],
            "the text does not say whether the file holds variances or 1/deviation; the blobs may",
        )
    axes4 = all(facts.shapes_tell and facts.blobs and facts.blobs[0].ndim == 4 for facts in group)
    if axes4:
        return case.because("pspnet", "blobs of the shape (1, C, 1, 1)")
    eps = [float(facts.fields.get("eps", facts.numbered.get(4, 1e-5))) for facts in group]
    return _variance_or_inverse(
        case, "yjxiong-c", "yjxiong-b", min(eps), [facts.blobs[3] for facts in group if facts.blobs],
        [facts.blobs[2] for facts in group if facts.blobs],
    )  # fmt: skip


def _variance_or_inverse(
    case: _Case, variance: str, inverse: str, eps: float, x: Sequence[np.ndarray], mean: Sequence[np.ndarray]
) -> str:
    """Whether X holds variances or 1/deviation: file name, impossible values, then what is likely."""
    for name in case.names:
        if re.search(r"(_inv_std|\.inv_std)\b", name):
            return case.because(inverse, f'"_inv_std" in the name of {name}')
        if re.search(r"_var\b|\.v5$", name):
            return case.because(variance, f'"_var" or ".v5" in the name of {name}')
    flat = [np.asarray(a, np.float64).reshape(-1) for a in x]
    means = [np.asarray(a, np.float64).reshape(-1) for a in mean]
    limit = 1 / np.sqrt(eps) if eps > 0 else np.inf
    largest = max((a.max(initial=0) for a in flat), default=0.0)
    if largest > limit * (1 + 1e-4):
        return case.because(
            variance, f"{largest:.4g} in the last blob, above {limit:.4g} = 1/sqrt(eps), so no 1/deviation"
        )
    if any(np.any(a == 0) for a in flat):
        return case.because(variance, "zeros in the last blob, which 1/deviation cannot be")
    score, words = 0, []
    if np.all(flat[0] > 10):
        score += 2
        words.append(
            "the first layer's last blob is far above 1, as variances behind a convolution of pictures are"
        )
    elif np.all(flat[0] < 0.5):
        score -= 2
        words.append(
            "the first layer's last blob is well below 1, as 1/deviation behind a convolution of pictures is"
        )
    votes = [_rank_correlation(m * m, v) for m, v in zip(means, flat, strict=True) if v.size > 3]
    positive, negative = sum(r > 0 for r in votes), sum(r < 0 for r in votes)
    if positive != negative:
        score += 1 if positive > negative else -1
        words.append(
            f"in {max(positive, negative)} of {len(votes)} layers large means go with "
            f"{'large' if positive > negative else 'small'} values, as with "
            f"{'variances' if positive > negative else '1/deviation'}"
        )
    likely = variance if score >= 0 else inverse
    if abs(score) == 3:
        return case.because(likely, *words)
    case.evidence += words
    return case.ask(
        likely, [variance, inverse],
        "variances and 1/deviation have the same names and shapes, and these values do not settle it; a wrong choice "
        "gives numbers that look reasonable: go by the age and the origin of the file",
    )  # fmt: skip


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(v, kind="stable"), kind="stable").astype(np.float64) for v in (a, b)]
    centred = [r - r.mean() for r in ranks]
    return float(centred[0] @ centred[1] / (np.linalg.norm(centred[0]) * np.linalg.norm(centred[1])))
