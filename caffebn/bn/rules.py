"""The rules of `caffebn.bn.lint`, one function each.

A rule gets the whole case and yields findings: what is there, why it matters, what to write.  Codes: BN0xx the
net itself, BN1xx which statistics are used, BN2xx learning rates, BN3xx layers around a BatchNorm, BN4xx batches,
BN5xx layers in place, BN6xx names and shapes of weights, BN7xx what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from caffebn.bn.lint import Case, Edit, Finding, View
from caffebn.errors import Where, did_you_mean, some
from caffebn.layers import find_type
from caffebn.proto import Message

__all__ = ["RULES"]

Rule = Callable[[Case], Iterator[Finding]]
RULES: list[Rule] = []
"""All rules, in the order of their codes."""

SMALL_BATCH = 8
FEW_VALUES = 32
LARGE_VARIANCE = 1e8
LARGE_EPS = 0.1
OTHER_DIALECTS = ("BN", "SyncBN")


def rule(function: Rule) -> Rule:
    """Add a rule."""
    RULES.append(function)
    return function


def _place(view: View, where: Where | None) -> str:
    return str(where) if where else view.file.name


def _shortest(value: float) -> str:
    """Write a number of single precision as short as it can be: 1e-05."""
    return f"{float(str(np.float32(value))):g}"


def _batch_norms(case: Case) -> Iterator[tuple[View, Message]]:
    for view in case.views:
        for layer in view.layers("BatchNorm"):
            yield view, layer


# -- BN0xx: the net itself ---------------------------------------------------------------------------------


@rule
def no_net(case: Case) -> Iterator[Finding]:
    """BN001: no net can be made of the text, so that rules that need shapes were not asked."""
    for view in case.views:
        e = view.error
        if e is None or view.in_place_error() is not None or view.layers(*OTHER_DIALECTS):
            continue
        where, message = getattr(e, "where", None), getattr(e, "message", str(e))
        unknown = [layer for layer in view.definition.layer if find_type(layer.type) is None]
        if unknown:
            types = ", ".join(dict.fromkeys(layer.type for layer in unknown))
            where, message = (
                unknown[0].where,
                f"{len(unknown)} layers are of types that caffebn does not have: {types}",
            )
        yield Finding(
            "BN001", "note" if unknown else "error", "", _place(view, where), message,
            "rules that need the sizes of blobs were not asked (BN401)",
            "a net that can be made; layers of other programs can stay, the rest is looked at",
        )  # fmt: skip


# -- BN1xx: which statistics -------------------------------------------------------------------------------


@rule
def batch_statistics_in_test(case: Case) -> Iterator[Finding]:
    """BN101: TEST normalises with the batch."""
    for view, layer in _batch_norms(case):
        if view.phase == "TEST" and view.uses_batch(layer):
            where = layer.batch_norm_param.where_of("use_global_stats")
            yield Finding(
                "BN101", "error", layer.name, _place(view, where or layer.where),
                f"use_global_stats: false holds in TEST ({view.file.name})",
                "the answer for an item depends on the others of its batch, and each pass changes what is stored",
                "leave use_global_stats out: TRAIN then uses the batch, TEST the stored statistics"
                if not view.file.is_deploy else "use_global_stats: true",
                Edit(where, r"use_global_stats\s*:\s*(false|0)\b", "use_global_stats: true")
                if where and view.file.is_deploy else None,
            )  # fmt: skip


@rule
def stored_statistics_in_training(case: Case) -> Iterator[Finding]:
    """BN102: TRAIN normalises with stored statistics."""
    for view, layer in _batch_norms(case):
        if view.trains and not view.uses_batch(layer):
            where = layer.batch_norm_param.where_of("use_global_stats")
            trained = case.weights is not None and _factor(case, layer.name) not in (None, 0)
            yield Finding(
                "BN102", "note" if trained else "warning", layer.name, _place(view, where or layer.where),
                "use_global_stats: true holds in TRAIN",
                "training normalises with the stored statistics and never changes them: right for fine-tuning with "
                "frozen BatchNorm, but from scratch they are 0, values grow by 1 / sqrt(eps), and the loss becomes NaN",
                "leave use_global_stats out to train; keep it (with --weights) to fine-tune",
            )  # fmt: skip


@rule
def missing_in_deploy(case: Case) -> Iterator[Finding]:
    """BN103: a BatchNorm layer of the trained net is missing in the net for use."""
    trained = {layer.name: (view, layer) for view, layer in _batch_norms(case) if view.trains}
    for file in case.files:
        names = {layer.name for view in file.views for layer in view.definition.layer}
        # a net without any of them may be a folded one
        if not file.is_deploy or not names & trained.keys():
            continue
        for name, (view, layer) in trained.items():
            if name not in names:
                yield Finding(
                    "BN103", "error", name, _place(view, layer.where),
                    f"{file.name} has no layer of that name",
                    "the net for use does not compute what was trained, or starts from other weights",
                    f'a layer "{name}" in {file.name}, or the same name in both{did_you_mean(name, names)}',
                )  # fmt: skip


@rule
def different_eps(case: Case) -> Iterator[Finding]:
    """BN104: eps differs between two nets."""
    first: dict[str, tuple[View, Message]] = {}
    for view, layer in sorted(_batch_norms(case), key=lambda pair: pair[0].file.is_deploy):
        other_view, other = first.setdefault(layer.name, (view, layer))
        mine, theirs = layer.batch_norm_param, other.batch_norm_param
        if _shortest(mine.eps) == _shortest(theirs.eps):
            continue
        wanted = _shortest(theirs.eps)
        where = mine.where_of("eps") or layer.batch_norm_param.where or layer.where
        yield Finding(
            "BN104", "error", layer.name, _place(view, where),
            f"eps is {_shortest(mine.eps)} here and {wanted} in {other_view.file.name}",
            "the net for use does not compute what was trained; channels with a small variance differ most",
            f"batch_norm_param {{ eps: {wanted} }} in both",
            _eps_edit(layer, wanted) if view.file.is_deploy and not other_view.file.is_deploy else None,
        )  # fmt: skip


def _eps_edit(layer: Message, eps: str) -> Edit | None:
    param = layer.batch_norm_param
    if layer.where is None:
        return None
    if where := param.where_of("eps"):
        return Edit(where, r"eps\s*:\s*[-+.\w]+", f"eps: {eps}")
    if layer.has("batch_norm_param") and param.where:
        return Edit(param.where, r"batch_norm_param\s*:?\s*\{", f"batch_norm_param {{ eps: {eps}")
    return Edit(layer.where, r"layer\s*:?\s*\{", f"layer {{ batch_norm_param {{ eps: {eps} }}")


@rule
def shared_statistics(case: Case) -> Iterator[Finding]:
    """BN105: layers share statistics by the names of parameters."""
    for view in case.views:
        users: dict[str, list[str]] = {}
        places: dict[str, Where | None] = {}
        for layer in view.layers("BatchNorm"):
            for i, param in enumerate(layer.param):
                if param.name:
                    users.setdefault(param.name, []).append(layer.name)
                    places.setdefault(param.name, layer.where_of("param", i) or layer.where)
        for name, layers in users.items():
            if len(layers) > 1:
                yield Finding(
                    "BN105", "warning", layers[0], _place(view, places[name]),
                    f'the statistics "{name}" are shared by {", ".join(layers)}',
                    "each of them adds its batch to one moving average, which fits none when their inputs differ "
                    "(two branches of a siamese net); Caffe versions differ in whether they keep such names",
                    "param without name, so that each layer has its own statistics; share convolutions instead",
                )  # fmt: skip


@rule
def moving_average(case: Case) -> Iterator[Finding]:
    """BN106: a moving_average_fraction that forgets all or nothing."""
    for view, layer in _batch_norms(case):
        fraction = layer.batch_norm_param.moving_average_fraction
        if not (view.trains and view.uses_batch(layer)) or 0.5 <= fraction < 1:
            continue
        where = layer.batch_norm_param.where_of("moving_average_fraction") or layer.where
        if fraction > 1 or fraction < 0:
            severity, why = "error", "the sums grow without bound, or change their sign"
        elif fraction == 1:
            severity, why = (
                "note",
                "the average weighs the first batches of training as much as the last ones",
            )
        else:
            severity, why = "warning", "TEST uses the statistics of the last few batches alone"
        yield Finding(
            "BN106", severity, layer.name, _place(view, where), f"moving_average_fraction is {_shortest(fraction)}",
            why,
            "0.9 to 0.999: the fraction of the old average that is kept, which other frameworks write as 1 - momentum",
        )  # fmt: skip


@rule
def strange_eps(case: Case) -> Iterator[Finding]:
    """BN107: an eps that is none."""
    for view, layer in _batch_norms(case):
        eps = layer.batch_norm_param.eps
        if 0 < eps <= LARGE_EPS:
            continue
        where = layer.batch_norm_param.where_of("eps") or layer.where
        if not np.isfinite(eps) or eps < 0:
            severity, why = (
                "error",
                "variance + eps must be a positive number, for the root of it is divided by",
            )
        elif eps == 0:
            severity, why = (
                "warning",
                "a channel that does not vary is divided by 0: its outputs are no numbers",
            )
        else:
            severity, why = "warning", "channels whose variance is not much larger come out far too small"
        yield Finding(
            "BN107", severity, layer.name, _place(view, where), f"eps is {_shortest(eps)}", why,
            "1e-5, Caffe's default, or what the net was trained with: 1e-3 to 1e-7 are usual",
        )  # fmt: skip


@rule
def other_dialect(case: Case) -> Iterator[Finding]:
    """BN108: layers of another batch normalisation, which these rules do not know."""
    for view in case.views:
        layers = view.layers(*OTHER_DIALECTS)
        if layers:
            first = layers[0]
            yield Finding(
                "BN108", "note", first.name, _place(view, first.where_of("type") or first.where),
                f"{len(layers)} layers of type {first.type}, which are those of a fork of Caffe, were not looked at",
                "their blobs and statistics have other rules; Caffe does not know the type",
                "caffebn convert-bn, which makes BatchNorm and Scale of them; then lint again",
            )  # fmt: skip


# -- BN2xx: learning rates -----------------------------------------------------------------------------------


@rule
def learned_statistics(case: Case) -> Iterator[Finding]:
    """BN201: a learning rate for the three blobs."""
    for file in case.files:
        view = file.views[0]
        for layer in file.raw.layer:
            if layer.type != "BatchNorm" or not any(param.lr_mult for param in layer.param):
                continue
            count = len(layer.param)
            for i, param in enumerate(layer.param):
                if param.lr_mult == 0:
                    continue
                where = param.where_of("lr_mult") or layer.where_of("param", i)
                yield Finding(
                    "BN201", "warning" if count == 3 else "error", layer.name, _place(view, where or layer.where),
                    f"param {i} has lr_mult {_shortest(param.lr_mult)}"
                    + ("" if param.has("lr_mult") else ", the default"),
                    "the blobs are statistics, not learned; " + (
                        "Caffe sets the rates of exactly three param to 0, old versions and forks let them learn"
                        if count == 3 else f"with {count} param Caffe refuses the net"
                    ),
                    "param { lr_mult: 0 } three times, or no param at all",
                    _rate_edit(layer, i),
                )  # fmt: skip


def _rate_edit(layer: Message, index: int) -> Edit | None:
    param = layer.param[index]
    if where := param.where_of("lr_mult"):
        return Edit(where, r"lr_mult\s*:\s*[-+.\w]+", "lr_mult: 0")
    if param.where is None:
        return None
    return Edit(param.where, r"param\s*:?\s*\{", "param { lr_mult: 0")


# -- BN3xx: layers around a BatchNorm -------------------------------------------------------------------------


@rule
def no_scale(case: Case) -> Iterator[Finding]:
    """BN301: no Scale behind a BatchNorm."""
    for view, layer in _batch_norms(case):
        readers = view.readers(layer)
        if readers and not any(reader.type in ("Scale", "Bias") for reader in readers):
            yield Finding(
                "BN301", "warning", layer.name, _place(view, layer.where),
                f"no Scale reads what it makes, but {', '.join(f'{r.name} ({r.type})' for r in readers[:3])}",
                "Caffe's BatchNorm has no factor and no shift of its own: each channel keeps mean 0 and variance 1",
                'layer { type: "Scale" scale_param { bias_term: true } } behind it',
            )  # fmt: skip


@rule
def scale_without_bias(case: Case) -> Iterator[Finding]:
    """BN302: the Scale behind a BatchNorm has no bias."""
    for view, layer in _batch_norms(case):
        for reader in view.readers(layer):
            follows = [r.type for r in view.readers(reader)]
            if reader.type == "Scale" and not reader.scale_param.bias_term and follows != ["Bias"]:
                yield Finding(
                    "BN302", "warning", reader.name, _place(view, reader.where),
                    f"the Scale behind {layer.name} has no bias (bias_term is false by default)",
                    "the mean of each channel stays 0, and half of it is lost in a ReLU behind",
                    "scale_param { bias_term: true }, and weights that have the second blob",
                )  # fmt: skip


@rule
def wasted_bias(case: Case) -> Iterator[Finding]:
    """BN303: a bias in front of a BatchNorm."""
    for view, layer in _batch_norms(case):
        maker = view.maker(layer)
        if not view.trains or not view.uses_batch(layer) or maker is None:
            continue
        param = {"InnerProduct": maker.inner_product_param}.get(maker.type, maker.convolution_param)
        if maker.type in ("Convolution", "Deconvolution", "InnerProduct") and param.bias_term:
            yield Finding(
                "BN303", "note", maker.name, _place(view, param.where_of("bias_term") or maker.where),
                f"it has a bias (bias_term is true by default), and {layer.name} subtracts the mean behind it",
                "the bias cancels, its gradient is 0 but for rounding, which Adam and its like turn into full steps",
                "bias_term: false when training from scratch; weights that have the bias need it",
            )  # fmt: skip


@rule
def zero_scale(case: Case) -> Iterator[Finding]:
    """BN304: a Scale layer that starts at 0."""
    for view in case.views:
        for layer in view.layers("Scale"):
            param = layer.scale_param
            if not view.trains or len(layer.bottom) != 1 or not param.has("filler"):
                continue
            filler = param.filler
            if filler.type == "constant" and filler.value == 0:
                edit = None
                if not filler.has("value") and filler.where:
                    edit = Edit(filler.where, r"filler\s*:?\s*\{", "filler { value: 1")
                yield Finding(
                    "BN304", "error", layer.name, _place(view, filler.where or layer.where),
                    "its filler is constant with value 0" + ("" if filler.has("value") else ", the default"),
                    "all values become 0, and no gradient reaches the layers below",
                    "filler { value: 1 }, or no filler at all, which also means 1",
                    edit,
                )  # fmt: skip


# -- BN4xx: batches ----------------------------------------------------------------------------------------------


def _values(view: View, layer: Message) -> int | None:
    """Return the number of values per channel in a batch."""
    net = view.net
    if net is None or layer.name not in net.layer_dict:
        return None
    return getattr(net.layer_dict[layer.name], "values_per_channel", None)


@rule
def small_batch(case: Case) -> Iterator[Finding]:
    """BN401: too few values for statistics."""
    for view, layer in _batch_norms(case):
        if not view.trains or not view.uses_batch(layer):
            continue
        values, size = _values(view, layer), view.batch_size
        if values == 1:
            yield Finding(
                "BN401", "error", layer.name, _place(view, layer.where),
                "there is one value per channel in a batch",
                "it is its own mean: the output is 0 whatever the input",
                "a larger batch_size, or use_global_stats: true with trained weights",
            )  # fmt: skip
        elif (values is not None and values < FEW_VALUES) or (size is not None and size < SMALL_BATCH):
            seen = f"{values} values per channel" if values is not None else f"batches of {size}"
            yield Finding(
                "BN401", "warning", layer.name, _place(view, layer.where),
                f"its statistics come from {seen} (batch_size {size if size is not None else 'unknown'})",
                "statistics of few values are noise, and TEST, which uses averages, behaves otherwise than training",
                "a larger batch_size, or use_global_stats: true to fine-tune with trained statistics",
            )  # fmt: skip


@rule
def iter_size(case: Case) -> Iterator[Finding]:
    """BN402: iter_size, which does not enlarge the batch of a BatchNorm."""
    if case.solver is None or case.solver_net is None or case.solver.iter_size <= 1:
        return
    for view in case.solver_net.views:
        norms = [layer.name for layer in view.layers("BatchNorm") if view.uses_batch(layer)]
        if not view.trains or not norms:
            continue
        where = case.solver.where_of("iter_size")
        size = view.batch_size
        yield Finding(
            "BN402", "warning" if size is None or size < 32 else "note", "", str(where or "solver"),
            f"iter_size is {case.solver.iter_size}, and {len(norms)} BatchNorm layers use the statistics of the batch",
            f"iter_size adds up gradients; each BatchNorm still sees batch_size {'?' if size is None else size} "
            "alone, and its moving average moves once a pass",
            "a larger batch_size in the net, or frozen statistics",
        )  # fmt: skip


# -- BN5xx: layers in place ------------------------------------------------------------------------------------


@rule
def refused_in_place(case: Case) -> Iterator[Finding]:
    """BN501: a layer in place on a blob that others read."""
    for view in case.views:
        if (e := view.in_place_error()) is not None:
            yield Finding(
                "BN501", "error", "", _place(view, e.where), e.message,
                "the other layer would read changed values, or the values before the change, as the order has it",
                "a top of its own for the layer in place",
            )  # fmt: skip


# What Caffe's backward passes read of their own: the bottom, which in place is the top; or the top.
_READ_BOTTOM = ("ReLU", "BNLL", "ELU", "Power", "Log", "Swish")
_READ_TOP = ("Sigmoid", "TanH", "ELU", "Exp", "Softmax", "LRN", "MVN", "Swish")
_HARMLESS = ("Dropout", "ReLU")


@rule
def spoiled_gradient(case: Case) -> Iterator[Finding]:
    """BN502: a layer in place overwrites what the backward pass of the layer before it reads."""
    for view in case.views:
        for layer in view.definition.layer:
            maker = view.maker(layer) if layer.bottom and layer.bottom[0] in layer.top else None
            if not view.trains or maker is None or layer.type in _HARMLESS:
                continue
            maker_in_place = bool(maker.bottom) and maker.bottom[0] in maker.top
            if maker.type in _READ_TOP or (maker.type in _READ_BOTTOM and maker_in_place):
                yield Finding(
                    "BN502", "warning", layer.name, _place(view, layer.where_of("top") or layer.where),
                    f'in place on "{layer.bottom[0]}", which the backward pass of {maker.name} ({maker.type}) reads',
                    "Caffe computes a wrong gradient without a word; caffebn keeps a copy, and is right",
                    f'top: "{layer.name}", and that name as the bottom of the layers behind',
                )  # fmt: skip


# -- BN6xx, BN7xx: weights ------------------------------------------------------------------------------------------


def _factor(case: Case, name: str) -> float | None:
    _, blobs = (case.weights or {}).get(name, ("", []))
    return float(blobs[2].reshape(-1)[0]) if len(blobs) == 3 and blobs[2].size else None


@rule
def unused_weights(case: Case) -> Iterator[Finding]:
    """BN601: names in the weights that no net has."""
    if case.weights is None:
        return
    known = {layer.name for view in case.views for layer in view.definition.layer}
    stored = [name for name, (_, blobs) in case.weights.items() if blobs]
    unused = [name for name in stored if name not in known]
    if not unused:
        return
    nothing = len(unused) == len(stored)
    yield Finding(
        "BN601", "error" if nothing else "warning", "", case.weights_name,
        f"{len(unused)} of {len(stored)} layers with weights have a name that no net has: {some(unused)}",
        "weights are found by layer name; what matches nothing is skipped without a word",
        f"the same names in the net{did_you_mean(unused[0], known)}",
    )  # fmt: skip


@rule
def layers_without_weights(case: Case) -> Iterator[Finding]:
    """BN602: BatchNorm and Scale layers for which there are no weights."""
    if case.weights is None:
        return
    for view in case.views:
        for layer in view.layers("BatchNorm", "Scale"):
            if len(layer.bottom) == 1 and not case.weights.get(layer.name, ("", []))[1]:
                yield Finding(
                    "BN602", "error" if layer.type == "BatchNorm" else "warning", layer.name,
                    _place(view, layer.where_of("name") or layer.where),
                    f"{case.weights_name} has no weights for it",
                    "it keeps what its fillers give: statistics of 0 with factor 0, a scale of 1",
                    f"the name under which they are stored{did_you_mean(layer.name, case.weights)}",
                )  # fmt: skip


@rule
def number_of_blobs(case: Case) -> Iterator[Finding]:
    """BN603: a BatchNorm with another number of blobs than three."""
    for _, layer in _batch_norms(case):
        blobs = (case.weights or {}).get(layer.name, ("", []))[1]
        if blobs and len(blobs) != 3:
            yield Finding(
                "BN603", "error", layer.name, case.weights_name,
                f"{len(blobs)} blobs are stored, of shapes {', '.join(str(b.shape) for b in blobs)}",
                "Caffe's BatchNorm has three: sum of means, sum of variances, factor; others come from forks of Caffe",
                "two: a third blob that holds 1; four or five: convert the dialect (caffebn convert-bn)"
                if len(blobs) != 2 else "a third blob that holds 1, if the two are the statistics themselves",
            )  # fmt: skip


@rule
def no_numbers(case: Case) -> Iterator[Finding]:
    """BN705: weights of any layer that are no numbers."""
    norms = {layer.name for _, layer in _batch_norms(case)}
    known = {layer.name: layer.type for view in case.views for layer in view.definition.layer}
    for name, (_, blobs) in (case.weights or {}).items():
        bad = [(i, int((~np.isfinite(blob)).sum())) for i, blob in enumerate(blobs)]
        if name in norms or name not in known or not any(count for _, count in bad):
            continue
        places = ", ".join(f"{n} of {blobs[i].size} values of blob {i}" for i, n in bad if n)
        yield Finding(
            "BN705", "error", name, case.weights_name,
            f"{places} {'are' if sum(n for _, n in bad) > 1 else 'is'} not finite ({known[name]})",
            "every output that depends on them is no number either; training has diverged",
            "an earlier snapshot; a lower base_lr, or clip_gradients",
        )  # fmt: skip


@rule
def stored_statistics(case: Case) -> Iterator[Finding]:
    """BN701 to BN704: factor, variances, means that cannot be right."""
    if case.weights is None:
        return
    names = {layer.name: layer for _, layer in _batch_norms(case)}
    for name, layer in names.items():
        _, blobs = case.weights.get(name, ("", []))
        if len(blobs) == 3 and blobs[2].size:
            yield from _statistics(case.weights_name, layer, *blobs)


def _statistics(source: str, layer: Message, *blobs: np.ndarray) -> Iterator[Finding]:
    mean, var, factor = blobs[0].reshape(-1), blobs[1].reshape(-1), float(blobs[2].reshape(-1)[0])
    name = layer.name
    if factor == 0 and (mean.any() or var.any()):
        yield Finding(
            "BN701", "error", name, source, "the factor (blob 2) is 0 although statistics are stored",
            "Caffe takes mean and variance for 0 then: the output is the input times 1 / sqrt(eps)",
            "1 in blob 2, if the other two are the statistics themselves (NVCaffe writes it so)",
        )  # fmt: skip
    elif factor == 0:
        yield Finding(
            "BN701", "error", name, source, "the factor (blob 2) is 0: there are no statistics",
            "the layer was never run in training; the output is the input times 1 / sqrt(eps)",
            "train it, or compute statistics with caffebn bn-stats",
        )  # fmt: skip
    elif factor < 0 or not np.isfinite(factor):
        yield Finding(
            "BN701", "error", name, source, f"the factor (blob 2) is {factor:g}",
            "means and variances are divided by it",
            "a positive number: compute the statistics anew with caffebn bn-stats",
        )  # fmt: skip
    finite = np.isfinite(mean) & np.isfinite(var)
    if not finite.all():
        yield Finding(
            "BN703", "error", name, source,
            f"mean or variance is no number in {(~finite).sum()} of {var.size} channels",
            "so is every output of these channels; training has diverged",
            "an earlier snapshot, or caffebn bn-stats if the other weights are sound",
        )  # fmt: skip
    share = factor if factor > 0 and np.isfinite(factor) else 1.0
    v = np.where(finite, var, 0) / share
    if (v < 0).any():
        yield Finding(
            "BN702", "error", name, source,
            f"variances are negative in {(v < 0).sum()} of {v.size} channels, down to {v.min():.3g}",
            "the root is not a number; mean square minus squared mean in single precision makes such values, or "
            "another dialect stores something else in blob 1",
            "compute the statistics anew with caffebn bn-stats",
        )  # fmt: skip
    if (v > LARGE_VARIANCE).any():
        yield Finding(
            "BN703", "warning", name, source, f"variances go up to {v.max():.3g}",
            "activations have exploded in training, or the sums were not divided by a factor that is missing",
            "an earlier snapshot; lower base_lr; check that blob 2 is the factor",
        )  # fmt: skip
    dead = int(((v == 0) & finite).sum())
    if dead and factor > 0:
        yield Finding(
            "BN704", "warning", name, source, f"the variance is 0 in {dead} of {v.size} channels",
            "these channels never varied: they are dead, and small changes are multiplied by 1 / sqrt(eps) = "
            f"{1 / np.sqrt(layer.batch_norm_param.eps):.0f}",
            "look at the layer before it (caffebn plot stats)",
        )  # fmt: skip
