"""Net: layers joined by blobs, with pycaffe's interface."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from caffebn import blocks, ops
from caffebn.blob import Blob, Changes, HiddenBlob
from caffebn.errors import ArgumentError, DeviceError, FileError, WeightsError, did_you_mean
from caffebn.layers import Layer
from caffebn.layers.base import times
from caffebn.net.batches import Collector, batches, item_count
from caffebn.net.captured import Captured
from caffebn.net.debug_info import watch
from caffebn.net.filter import filter_net
from caffebn.net.fuse import fuse_steps
from caffebn.net.memory import Again, MemoryPlan, again_before
from caffebn.net.parameters import Parameters
from caffebn.net.plain import Arrays, read_plain, tell
from caffebn.net.splits import insert_splits
from caffebn.net.steps import LayerStep, Pass, Step
from caffebn.net.wiring import Wiring
from caffebn.proto import Message, binary, upgrade
from caffebn.weights import Report, blob_messages, copy_weights, is_hdf5, read_hdf5, write_hdf5

__all__ = ["TEST", "TRAIN", "Net", "default_device", "set_device", "set_mode_cpu", "set_mode_gpu"]

TRAIN = 0
"""The phase of training, as pycaffe numbers it."""
TEST = 1
"""The phase of testing."""

_PHASES = {TRAIN: "TRAIN", TEST: "TEST", "TRAIN": "TRAIN", "TEST": "TEST"}
_default_device = "cpu"

Callback = Callable[[int], Any]


def set_mode_cpu() -> None:
    """Make nets that are made from now on run on the CPU (which they do anyway)."""
    _set_mode("cpu")


def set_mode_gpu() -> None:
    """Make nets that are made from now on run on the GPU.

    Raises
    ------
    MissingPackageError, DeviceError
        CuPy is not installed, or finds no GPU.
    """
    _set_mode("gpu")


def set_device(device_id: int) -> None:
    """Choose the GPU of this thread, for nets that are made from now on; 0 is the first.

    A net stays on the GPU on which it was made: choose that one again before running it.

    Raises
    ------
    MissingPackageError, DeviceError
        CuPy is not installed, or there is no such GPU.
    """
    ops.arrays("gpu").select(device_id)


def default_device() -> str:
    """Return where nets run that are made without a device."""
    return _default_device


def _set_mode(device: str) -> None:
    global _default_device
    ops.get(device)
    _default_device = device


class Net:
    """A net made from a .prototxt, run forward and backward; pycaffe's ``Net``.

    Parameters
    ----------
    model : path-like or Message
        A .prototxt file, which may have blocks, or a NetParameter.
    *args
        pycaffe's two ways of calling: ``Net(model, phase)`` and ``Net(model, weights, phase)``.
    phase : {TRAIN, TEST}
        Phase of the net; needed.
    level : int
        Level for the rules of NetState.
    stages : sequence of str
        Stages for the rules of NetState, added to those of the text.
    weights : path-like
        A .caffemodel or .caffemodel.h5 file; layers get their weights by name.
    device : {"cpu", "gpu", "reference"}
        Where to compute; the default is that of `set_mode_cpu` or `set_mode_gpu`.  "gpu" is the device that
        `set_device` chose.
    dtype : {"float32", "float64"}
        Type of all blobs.
    strict : bool
        Refuse unknown fields in the text, and weights whose layers do not all match.
    fuse : bool
        Run several layers as one where nobody can see a difference but by rounding: BatchNorm, Scale and ReLU in
        place on one blob, and what follows a convolution in place.  A pass of which someone sees the inside
        (callbacks, `start` and `end`, `debug_info`) runs layer by layer all the same.
    keep : sequence of str, optional
        Promise that of the values and gradients only those of the inputs, the outputs and the blobs of these names
        will be looked at; the others are hidden.  Then more layers run as one (the sum of a residual unit with the
        convolution before it), and blobs that are not needed at the same time share memory.  In the TEST phase it
        promises as well that nothing goes backward, unless the text says ``force_backward: true``.  By default every
        blob can be read after a pass, as in pycaffe.  A net that is looked into while it runs (callbacks,
        `debug_info`, a forward pass with `end`) keeps everything from then on.
    recompute : bool
        With `keep`: do not keep the outputs of BatchNorm (with Scale and ReLU) for the backward pass, but compute
        them once more from what BatchNorm has read.  Training needs less memory and more time.
    winograd : bool
        Compute convolutions by Winograd's algorithm where that seems quicker: float32 on the CPU, 3x3 kernels with
        stride 1.  It loses up to a digit, as docs/performance-conv.md says; without it they are plain sums.
    dialect : str, optional
        In which dialect of batch normalisation text and weights are (docs/dialects.md).  By default that is found out;
        layers of a fork are rewritten as BatchNorm and Scale, with a warning that says so, and refused where it is not
        certain.  ``"bvlc"`` takes everything as Caffe does.

    Attributes
    ----------
    blobs : OrderedDict of Blob
        By name, in the order in which layers make them.
    params : OrderedDict of list of Blob
        Parameter blobs by layer name, of the layers that have any.
    layers : list of Layer
        In order of execution, with the Split layers that the net puts in.
    layer_dict : OrderedDict of Layer
        By name.
    inputs, outputs : list of str
        Names of the tops of Input layers, and of the blobs that no layer reads (alphabetical).
    top_names, bottom_names : OrderedDict of list of str
        By layer name.
    blob_loss_weights : OrderedDict of float
        Weight in the loss, by blob name.
    parameters : Parameters
        Every parameter blob, in net order, and the two flat buffers in which they lie.
    need_backward : list of bool
        Whether each layer takes part in the backward pass.
    steps, backward_steps : list of Step
        What a pass over the whole net runs, forward and backward: single layers, and those that run as one.
    keep : list of str or None
        As given.
    weights_report : Report or None
        What the last `copy_from` did.

    Raises
    ------
    ParseError, FileError
        The text cannot be read.
    NetError
        The net cannot be made; the message names the layer and the place in the text.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Message,
        *args: Any,
        phase: int | str | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        dtype: str | type | np.dtype = np.float32,
        strict: bool = False,
        fuse: bool = True,
        keep: Sequence[str] | None = None,
        recompute: bool = False,
        winograd: bool = True,
        dialect: str | None = None,
    ):
        weights, phase, level, stages = _pycaffe_arguments(args, weights, phase, level, stages)
        if isinstance(model, Message):
            source = str(model.where.file) if model.where else "<message>"
            definition = model.copy()
        else:
            source = str(model)
            if not Path(model).exists():
                raise FileError(
                    f"{source}: there is no such file; a net is made from the path of a .prototxt"
                )
            definition = blocks.read(model, strict=strict)
        self.device = device or _default_device
        self.ops, self.arrays = ops.get(self.device), ops.arrays(self.device)
        self._gpu = self.arrays.selected() if self.device == "gpu" else None
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ArgumentError(f"dtype: expected float32 or float64, found {self.dtype}")

        upgrade.net(definition, source)
        self._dialect, self._foreign = dialect, definition.copy()
        arrays, converted = read_plain(self._foreign, weights, dialect, [source])
        if converted is not None and converted.net is not None:
            definition = converted.net
            tell(source, converted)
        self.keep = _checked_keep(keep, recompute)
        state = definition.mutable("state")
        state.phase = _PHASES[phase]
        state.level = level
        state.stage = [*state.stage, *stages]
        self._made = {layer.name for layer in definition.layer}
        definition = insert_splits(filter_net(definition, state))
        self.name: str = definition.name
        self.phase: str = state.phase
        self._callbacks: dict[str, list[Callback]] = {
            f"{when}_{way}": [] for when in ("before", "after") for way in ("forward", "backward")
        }
        self._wiring = Wiring(
            definition, source, self.device, self.phase, self.dtype, winograd, self.keep is not None
        )
        self.layers: list[Layer] = self._wiring.layers
        self.changes: Changes = self._wiring.changes
        self.parameters = Parameters(self.layers, self.dtype, page_locked=self.device == "gpu")
        self._wiring.plan_gradients(definition.force_backward)
        self._forward_only = self.keep is not None and self.phase == "TEST" and not definition.force_backward
        if self._forward_only:
            self._wiring.need_backward = [False] * len(self.layers)
        self.need_backward: list[bool] = self._wiring.need_backward
        self._name_things()
        self._fuse = fuse
        self._plan_passes(recompute)
        self._watched = False
        self.debug_info = definition.debug_info
        self.weights_report: Report | None = None
        if weights is not None:
            self._take(weights, arrays, strict)

    @classmethod
    def from_text(cls, definition: str, phase: int | str, **options: Any) -> Net:
        """Make a net from prototxt text; options as for `Net`."""
        return cls(blocks.parse(definition), phase, **options)

    # -- making ------------------------------------------------------------------------------------

    def _name_things(self) -> None:
        w, names, layers = self._wiring, self._wiring.names, self.layers
        self.blobs: OrderedDict[str, Blob] = OrderedDict(zip(names, w.blobs, strict=True))
        w.shown = self._which_last()
        for name, shown in zip(names, w.shown, strict=True):
            if not shown:
                self.blobs[name] = HiddenBlob(self.blobs[name], name)
        self.layer_dict: OrderedDict[str, Layer] = OrderedDict((layer.name, layer) for layer in layers)
        self.params: OrderedDict[str, list[Blob]] = OrderedDict(
            (layer.name, layer.blobs) for layer in layers if layer.blobs
        )
        self.top_names: OrderedDict[str, list[str]] = OrderedDict(
            (layer.name, [names[b] for b in ids]) for layer, ids in zip(layers, w.top_ids, strict=True)
        )
        self.bottom_names: OrderedDict[str, list[str]] = OrderedDict(
            (layer.name, [names[b] for b in ids]) for layer, ids in zip(layers, w.bottom_ids, strict=True)
        )
        self.inputs: list[str] = [n for layer in layers if layer.type == "Input" for n in layer.spec.top]
        self.outputs: list[str] = [names[b] for b in w.output_ids]
        self.blob_loss_weights: OrderedDict[str, float] = OrderedDict((name, 0.0) for name in names)
        for ids, weights in zip(w.top_ids, w.loss_weights, strict=True):
            for b, weight in zip(ids, weights, strict=True):
                self.blob_loss_weights[names[b]] = weight
        self._losses = w.weighted()
        self._layer_names = [layer.name for layer in layers]
        self._index = {layer.name: i for i, layer in enumerate(layers)}

    def _which_last(self) -> list[bool]:
        """Say for each blob whether its values outlast a pass: what users may look at, and what others have filled."""
        w = self._wiring
        if self.keep is None:
            return [True] * len(w.blobs)
        self._known_blobs(self.keep, "keep: ")
        shown = {*w.output_ids, *(b for b, name in enumerate(w.names) if name in self.keep)}
        for layer, tops, weights in zip(w.layers, w.top_ids, w.loss_weights, strict=True):
            if not layer.spec.bottom or layer.type == "Python" or any(weights):
                shown.update(tops)
        return [b in shown for b in range(len(w.blobs))]

    def _plan_passes(self, recompute: bool = False) -> None:
        """Cut the layers into steps, and find memory for them."""
        w = self._wiring
        versions = w.plan_copies()
        self.steps: list[Step] = (
            fuse_steps(w, versions) if self._fuse else [LayerStep(w, i) for i in range(len(w.layers))]
        )
        again = again_before(self.steps, w.blobs_that_last()) if recompute else {}
        self.backward_steps: list[Step] = []
        for k in reversed(range(len(self.steps))):
            if self.steps[k].needs_backward:
                self.backward_steps += [*again.get(k, ()), self.steps[k]]
        self._forward_pass = Pass(w, self.steps, self._settle)
        self._backward_pass = Pass(w, self.backward_steps)
        self._shared: MemoryPlan | None = None
        if not all(w.shown):
            plan = self.plan_memory()
            plan.apply()
            self._shared = plan

    def plan_memory(self, backward: bool = True) -> MemoryPlan:
        """Find out how much memory values and gradients take (``.bytes``); nothing is allocated.

        Parameters
        ----------
        backward : bool
            Whether passes backward are run, too, for which the net may hold values and has gradients.
        """
        for step in self.steps:
            step.prepare()
        if self._shared is not None:
            return self._shared
        return MemoryPlan(self._wiring, self.steps, self.backward_steps, backward)

    def _open_up(self) -> None:
        """Keep everything from now on, as somebody looks inside; what earlier passes have left is gone."""
        if self._shared is not None:
            self._shared.undo()
            self._wiring.shown = [True] * len(self._wiring.blobs)
            self.blobs.update(zip(self._wiring.names, self._wiring.blobs, strict=True))
            self._plan_passes()

    def _settle(self) -> None:
        """Before a pass that is recorded: reshape all layers at once, where blobs lie in others of the old shapes."""
        if self._shared is not None and self._shared.joints and self._wiring.has_new_shapes():
            self.reshape()

    # -- running -----------------------------------------------------------------------------------

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: Any,
    ) -> dict[str, np.ndarray]:
        """Run the layers from `start` to `end`, both included.

        Parameters
        ----------
        blobs : sequence of str
            Blobs to return, beside the outputs.
        start, end : str
            Names of layers; the first and the last by default.
        **inputs : array-like
            Values of all the input blobs, by name.

        Returns
        -------
        dict of ndarray
            The net's outputs, or with `end` that layer's tops, and `blobs`.  They are the blobs' own memory:
            copy what has to outlast the next call.

        Raises
        ------
        ArgumentError
            Unknown names, or inputs of the wrong shape.
        """
        wanted = self._known_blobs(blobs)
        names = self.top_names.get(end, []) if end is not None else self.outputs
        if inputs:
            self._fill(inputs, self.inputs, "input")
        self.run_forward(start, end)
        return {name: self.blobs[name].data for name in dict.fromkeys([*names, *wanted])}

    def run_forward(self, start: str | None = None, end: str | None = None) -> None:
        """Run layers as `forward` does, and return nothing: on a GPU, before they are done (see `synchronize`)."""
        first = self._layer_index(start) if start is not None else 0
        last = self._layer_index(end) if end is not None else len(self.layers) - 1
        self.check_gpu()
        try:
            self._forward(first, last)
        except DeviceError as e:
            raise self._advised(e) from None

    def capture(self, backward: bool = False) -> Captured:
        """Record a forward pass, or a forward and a backward pass, as a CUDA graph; see `Captured`."""
        return Captured(self, backward)

    def synchronize(self) -> None:
        """Wait until all that the net was asked for is done, which only a GPU makes one wait for.

        Raises
        ------
        ArgumentError
            A label that is no class, and the like, that a layer has met since the last look at any value.
        """
        self.arrays.synchronize()

    def check_gpu(self) -> None:
        """Refuse to run while another GPU than the net's is the current one of this thread.

        Raises
        ------
        DeviceError
        """
        if self._gpu is not None and self.arrays.selected() != self._gpu:
            raise DeviceError(
                f'net "{self.name}" is on GPU {self._gpu}, and this thread is at GPU {self.arrays.selected()}: call '
                f"set_device({self._gpu}) before, in each thread that runs the net"
            )

    def _advised(self, e: DeviceError) -> DeviceError:
        """Add to what is said about memory that is not there what to change, and how large a batch may fit."""
        advice = ""
        sizes = [top.shape[0] for tops in self._wiring.tops[:1] for top in tops if top.shape]
        if e.needed and sizes and sizes[0] > 1:
            fits = max(1, sizes[0] * e.used // (e.used + e.needed))
            advice += f"; the batch is {sizes[0]}: try {min(fits, sizes[0] - 1)}"
        if self.keep is None:
            advice += "; or make the net with keep=[]: then blobs share memory"
        elif self.phase == "TRAIN" and not any(isinstance(step, Again) for step in self.backward_steps):
            advice += "; or make the net with recompute=True: then outputs of BatchNorm are not kept"
        if "; or" in advice:
            advice += " (`caffebn info` says how much that needs)"
        return DeviceError(f"{e.message}{advice}", e.used, e.needed)

    def _forward(self, first: int, last: int) -> None:
        before, after = self._callbacks["before_forward"], self._callbacks["after_forward"]
        if self._shared is not None and (first > 0 or last < len(self.layers) - 1):
            self._look_into(first, last)
        if first == 0 and last == len(self.layers) - 1 and not before and not after:
            for step in self.steps:
                step.ran = True
            self._forward_pass.run()
            return
        for step in self.steps:
            if step.first <= last and step.last >= first:
                step.ran = False
        for i in range(first, last + 1):
            for call in before:
                call(i)
            self._wiring.forward_layer(i)
            for call in after:
                call(i)

    def _look_into(self, first: int, last: int) -> None:
        """Prepare a net whose memory is shared for a pass over some of its layers."""
        made = {id(blob.memories[0]) for blob in self._wiring.blobs_that_last()}
        for i in range(first, last + 1):
            layer = self.layers[i]
            for name, blob in zip(layer.spec.bottom, self._wiring.bottoms[i], strict=True):
                if id(blob.memories[0]) not in made:
                    raise ArgumentError(
                        f'forward: start: layer "{layer.name}" ({layer.type}) reads blob "{name}", whose values '
                        "are not kept, as the net was made with keep=[...]: make it without keep"
                    )
            made.update(id(blob.memories[0]) for blob in self._wiring.tops[i])
        self._open_up()

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **top_diffs: Any,
    ) -> dict[str, np.ndarray]:
        """Run the backward passes of the layers from `start` down to `end`, both included.

        Parameters
        ----------
        diffs : sequence of str
            Blobs whose diffs to return, beside those of the inputs.
        start, end : str
            Names of layers; the last and the first by default.
        **top_diffs : array-like
            Diffs of all the output blobs, by name.

        Returns
        -------
        dict of ndarray
            The diffs of the inputs, or with `end` of that layer's bottoms, and `diffs`.

        Raises
        ------
        ArgumentError
            Unknown names, or diffs of the wrong shape.
        NetError
            A layer without a gradient has to compute one.
        """
        wanted = self._known_blobs(diffs)
        names = self.bottom_names.get(end, []) if end is not None else self.inputs
        if top_diffs:
            self._fill(top_diffs, self.outputs, "output", diff=True)
        self.run_backward(start, end)
        return {name: self.blobs[name].diff for name in dict.fromkeys([*names, *wanted])}

    def run_backward(self, start: str | None = None, end: str | None = None) -> None:
        """Run layers as `backward` does, and return nothing: on a GPU, before they are done (see `synchronize`)."""
        first = self._layer_index(start) if start is not None else len(self.layers) - 1
        last = self._layer_index(end) if end is not None else 0
        self.check_gpu()
        try:
            self._backward(first, last)
        except DeviceError as e:
            raise self._advised(e) from None

    def _backward(self, first: int, last: int) -> None:
        if self._forward_only:
            raise ArgumentError(
                "backward: the net was made with keep=[...] in the TEST phase, which promises that nothing goes "
                'backward: make it without keep, or with "force_backward: true" in its text'
            )
        before, after = self._callbacks["before_backward"], self._callbacks["after_backward"]
        whole = last == 0 and first == len(self.layers) - 1 and not before and not after
        if whole and all(step.ran for step in self.steps):
            self._backward_pass.run()
            return
        if self._shared is not None:
            if whole:
                raise ArgumentError("backward: run the whole net forward first: its values are needed")
            raise ArgumentError(
                "backward: with start or end it needs values that the forward pass has not kept, as the net was made "
                "with keep=[...]: make it without keep"
            )
        for step in self.steps:
            if step.ran:
                step.expose()
                step.ran = False
        for i in range(first, last - 1, -1):
            for call in before:
                call(i)
            self._wiring.backward_layer(i)
            for call in after:
                call(i)

    @property
    def loss(self) -> float:
        """Total loss of the last forward pass: each weighted top's sum times its weight."""
        return self._loss_later()()

    def _loss_later(self) -> Callable[[], float]:
        """Return what returns the loss that there is now; on a GPU it waits for it, and not before."""
        parts = [
            (self.arrays.read_later(top.data.sum(dtype=np.float64)), weight) for top, weight in self._losses
        ]
        return lambda: sum(weight * float(read()) for read, weight in parts)

    @property
    def debug_info(self) -> bool:
        """Whether each pass prints how large the values and the gradients are (``debug_info`` in the text)."""
        return self._debug_info

    @debug_info.setter
    def debug_info(self, on: bool) -> None:
        self._debug_info = on
        if on and not self._watched:
            self._watched = True
            watch(self, self._wiring.propagate_down)

    def forward_backward(self) -> float:
        """Run the whole net forward and backward and return the loss, as a step of a solver does."""
        self.run_forward()
        loss = self._loss_later()
        self.run_backward()
        return loss()

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run as many forward passes as the inputs need, cut into batches of the net's size.

        Parameters
        ----------
        blobs : sequence of str
            Blobs to return, beside the outputs.
        **inputs : ndarray
            All the inputs, of any number of items; the last batch is filled up with zeros.

        Returns
        -------
        dict of ndarray
            Outputs for every item.
        """
        self._check_names(inputs, self.inputs, "input")
        outputs = Collector()
        for batch in batches(inputs, self.blobs):
            outputs.add(self.forward(blobs, None, None, **batch))
        return outputs.items(item_count(inputs))

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **values: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run forward and backward in batches.

        Parameters
        ----------
        blobs, diffs : sequence of str
            Blobs whose data, or diff, to return beside the outputs' and the inputs'.
        **values : ndarray
            All the inputs, and diffs of the outputs (by the output's name).

        Returns
        -------
        outputs, diffs : dict of ndarray
            For every item.
        """
        inputs = {k: v for k, v in values.items() if k in self.inputs}
        top_diffs = {k: v for k, v in values.items() if k not in self.inputs}
        self._check_names(inputs, self.inputs, "input")
        if top_diffs:
            self._check_names(top_diffs, self.outputs, "output")
        outputs, gradients = Collector(), Collector()
        diff_batches = batches(top_diffs, self.blobs) if top_diffs else repeat({})
        for batch in batches(inputs, self.blobs):
            outputs.add(self.forward(blobs, None, None, **batch))
            gradients.add(self.backward(diffs, None, None, **next(diff_batches)))
        count = item_count(inputs)
        return outputs.items(count), gradients.items(count)

    def reshape(self) -> None:
        """Let every layer shape its tops anew, after inputs were reshaped; forward does so by itself."""
        if self._shared is not None:
            self._shared.loosen()
        for i in range(len(self.layers)):
            self._wiring.reshape_layer(i)
        if self._shared is not None:
            self._shared.join()

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to 0."""
        self.parameters.diff.clear()

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Give a MemoryData layer, the net's first layer, its items.

        Parameters
        ----------
        data : ndarray, shape (items, channels, height, width), float32, C order
        labels : ndarray, shape (items,) or (items, 1, 1, 1), float32
            The number of items is a multiple of the batch size.

        Raises
        ------
        ArgumentError
            The first layer is of another type, or the arrays do not fit it.
        """
        first = self.layers[0]
        if first.type != "MemoryData":
            raise ArgumentError(
                f'set_input_arrays: the first layer has to be MemoryData, it is "{first.name}" ({first.type})'
            )
        first.reset(data, labels)  # type: ignore[attr-defined]

    # -- callbacks ---------------------------------------------------------------------------------

    def before_forward(self, call: Callback) -> None:
        """Call `call(layer index)` before each layer's forward pass."""
        self._open_up()
        self._callbacks["before_forward"].append(call)

    def after_forward(self, call: Callback) -> None:
        """Call `call(layer index)` after each layer's forward pass."""
        self._open_up()
        self._callbacks["after_forward"].append(call)

    def before_backward(self, call: Callback) -> None:
        """Call `call(layer index)` before each layer's backward pass."""
        self._open_up()
        self._callbacks["before_backward"].append(call)

    def after_backward(self, call: Callback) -> None:
        """Call `call(layer index)` after each layer's backward pass."""
        self._open_up()
        self._callbacks["after_backward"].append(call)

    # -- weights -----------------------------------------------------------------------------------

    def copy_from(self, path: str | os.PathLike[str], strict: bool = False) -> Report:
        """Copy weights from a .caffemodel or .caffemodel.h5 file, by layer name.

        Parameters
        ----------
        path : path-like
        strict : bool
            Refuse a file that leaves parameters of the net without weights, or has weights for no layer of it.

        Returns
        -------
        Report
            What matched and what did not; also kept as `weights_report`.

        Raises
        ------
        FileError, FormatError
            The file cannot be read.
        WeightsError
            Weights do not fit; the net is as it was.
        """
        weights, converted = read_plain(self._foreign, path, self._dialect)
        for layer in converted.net.layer if converted is not None and converted.net is not None else ():
            if layer.name not in self._made:
                raise WeightsError(
                    f"{path}: its layers of batch normalisation hold scale and shift, too, for which the net has "
                    f"no layer "
                    f'("{layer.name}"): give the weights when the net is made, Net(model, weights, phase)'
                )
        return self._take(path, weights, strict)

    def load_hdf5(self, path: str | os.PathLike[str], strict: bool = False) -> Report:
        """Copy weights from an HDF5 file of any name; otherwise as `copy_from`."""
        return self._take(path, read_hdf5(path), strict, hdf5=True)

    def _take(
        self, path: str | os.PathLike[str], weights: Arrays, strict: bool, hdf5: bool = False
    ) -> Report:
        if hdf5 or is_hdf5(path):
            weights = self._with_shared(weights)
        types = {layer.name: layer.type for layer in self.layers}
        self.weights_report = copy_weights(self.params, types, weights, str(path), strict)
        return self.weights_report

    def _with_shared(self, weights: Arrays) -> Arrays:
        """Complete what an HDF5 file stores with its owner only: a parameter shared by name is as it is."""
        complete = {name: list(arrays) for name, arrays in weights.items()}
        for p in self.parameters:
            arrays = complete.get(p.layer.name)
            if p.owner and arrays is not None:
                arrays += [None] * (p.index + 1 - len(arrays))
                if arrays[p.index] is None:
                    arrays[p.index] = p.blob.data
        return complete

    def share_with(self, other: Net) -> None:
        """Look at the parameters of another net from now on: layers of the same name share their data.

        Raises
        ------
        WeightsError
            A layer of the same name has parameters of another number or shape.
        """
        for layer in other.layers:
            own = self.layer_dict.get(layer.name)
            if own is None:
                continue
            shapes, found = [b.shape for b in own.blobs], [b.shape for b in layer.blobs]
            if shapes != found:
                raise WeightsError(
                    f'share_with: layer "{layer.name}" ({own.type}): expected parameters '
                    f"{[times(s) for s in shapes]}, found {[times(s) for s in found]}"
                )
        for layer in other.layers:
            own = self.layer_dict.get(layer.name)
            if own is not None:
                for blob, shared in zip(own.blobs, layer.blobs, strict=True):
                    if not blob.shares_data_with(shared):
                        blob.share_data(shared)
        self.parameters.release_unused()

    def to_proto(self, diff: bool = False) -> Message:
        """Return the net as a NetParameter with its weights, as `save` writes it.

        Parameters
        ----------
        diff : bool
            Store the gradients of the parameters, too.
        """
        net = Message("NetParameter", name=self.name)
        net.layer = [layer.spec.copy() for layer in self.layers]
        for layer, spec in zip(self.layers, net.layer, strict=True):
            spec.clear("blobs")
            blob_messages(spec, layer.blobs, diff)
        return net

    def save(self, path: str | os.PathLike[str], diff: bool = False) -> None:
        """Write a .caffemodel that Caffe reads, whole or not at all.

        Raises
        ------
        FileError
            The file cannot be written; an old one is untouched.
        """
        binary.write(path, self.to_proto(diff))

    def save_hdf5(self, path: str | os.PathLike[str], diff: bool = False) -> None:
        """Write a .caffemodel.h5 that Caffe reads, whole or not at all."""
        owned: dict[str, list[bool]] = {layer.name: [] for layer in self.layers}
        for p in self.parameters:
            owned[p.layer.name].append(p.owner is None)
        write_hdf5(path, {layer.name: layer.blobs for layer in self.layers}, owned, diff)

    # -- small helpers -----------------------------------------------------------------------------

    def _layer_index(self, name: str) -> int:
        try:
            return self._index[name]
        except KeyError:
            raise ArgumentError(f'there is no layer "{name}"{did_you_mean(name, self._index)}') from None

    def _known_blobs(self, names: Sequence[str] | None, what: str = "") -> list[str]:
        for name in names or ():
            if name not in self.blobs:
                raise ArgumentError(f'{what}there is no blob "{name}"{did_you_mean(name, self.blobs)}')
            blob = self.blobs[name]
            if isinstance(blob, HiddenBlob):
                blob.refuse()
        return list(names or ())

    def _check_names(self, given: dict[str, Any], expected: Sequence[str], what: str) -> None:
        if set(given) != set(expected):
            raise ArgumentError(
                f"{what} blobs: expected {', '.join(expected) or 'none'}, found {', '.join(sorted(given)) or 'none'}"
            )

    def _fill(self, values: dict[str, Any], expected: Sequence[str], what: str, diff: bool = False) -> None:
        self._check_names(values, expected, what)
        for name, value in values.items():
            blob, array = self.blobs[name], np.asarray(value)
            if array.shape != blob.shape:
                raise ArgumentError(
                    f'{what} blob "{name}": expected shape {times(blob.shape)}, found {times(array.shape)}; to change '
                    f"the shape call net.blobs[{name!r}].reshape(...) first"
                )
            (blob.diff if diff else blob.data)[...] = array

    def __repr__(self) -> str:
        return f'<Net "{self.name}" {self.phase} {len(self.layers)} layers on {self.device}>'


def _pycaffe_arguments(args: tuple, weights: Any, phase: Any, level: int, stages: Any) -> tuple:
    """Tell pycaffe's calls apart: (phase[, level[, stages[, weights]]]) or (weights, phase)."""
    if len(args) == 2 and isinstance(args[0], str | os.PathLike) and args[0] not in _PHASES:
        weights, phase = args
    elif args:
        if phase is not None or len(args) > 4:
            raise ArgumentError(
                "Net takes (model, phase[, level[, stages[, weights]]]) or (model, weights, phase)"
            )
        defaults = (phase, level, stages, weights)
        phase, level, stages, weights = args + defaults[len(args) :]
    if phase is None:
        raise ArgumentError("Net needs a phase: caffebn.TRAIN or caffebn.TEST")
    if phase not in _PHASES:
        raise ArgumentError(f"phase: expected caffebn.TRAIN or caffebn.TEST, found {phase!r}")
    return weights, phase, int(level), list(stages or ())


def _checked_keep(keep: Sequence[str] | None, recompute: bool) -> list[str] | None:
    if isinstance(keep, str):
        raise ArgumentError(
            f'keep: expected a sequence of names of blobs, found the text "{keep}": write ["{keep}"]'
        )
    if keep is None and recompute:
        raise ArgumentError(
            "recompute needs keep=[...], the names of the blobs that you want to read after a pass: the others are "
            "not kept"
        )
    return None if keep is None else list(keep)
