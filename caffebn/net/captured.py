"""Passes of a net on a GPU, recorded once and launched as one CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caffebn.blob import Memory
from caffebn.errors import ArgumentError

if TYPE_CHECKING:
    from caffebn.net.net import Net

__all__ = ["Captured"]


class Captured:
    """A forward pass of a net, or a forward and a backward pass, recorded with the shapes that there are now.

    Launching it does the work of ``net.run_forward()``, or of ``net.clear_param_diffs()``, ``net.run_forward()`` and
    ``net.run_backward()``, without the time that the host needs for each kernel: many small layers gain most.  Layers
    at the start of the net that work on the host, such as data layers, run before the graph as usual.

    Parameters
    ----------
    net : Net
    backward : bool

    Raises
    ------
    ArgumentError
        The net is on the host, or a layer behind the first others works there, or the net has callbacks.
    """

    def __init__(self, net: Net, backward: bool = False):
        if net.device != "gpu":
            raise ArgumentError(f'capture: the net runs on the {net.device}; make it with device="gpu"')
        net.check_gpu()
        layers = net.layers
        self._first = next((i for i, layer in enumerate(layers) if not layer.needs_host), len(layers))
        if any(net._callbacks.values()):
            raise ArgumentError(
                "capture: the net has callbacks (debug_info is one), and a recorded pass can call none: make another"
            )
        for layer in layers[self._first :]:
            if layer.needs_host or layer.reshapes_each_pass:
                raise ArgumentError(
                    f'capture: layer "{layer.name}" ({layer.type}) works on the host in each pass, so the '
                    "net cannot be recorded: run it without"
                )
        self._net = net
        self._steps = [step for step in net.steps if step.first >= self._first]
        self._backward = backward
        # what the passes until the graph is there do to statistics, gradients and places in data is undone
        stored = [memory.flat_on_gpu.copy() for memory in net.parameters.memories]
        states = [layer.get_state() for layer in layers]
        random = layers[0].rng.bit_generator if layers else None
        random_state = random.state if random else None
        net.run_forward()
        if backward:
            net.run_backward()
        self._shapes = self._all_shapes()
        self._graph = net.arrays.Graph(self._work)
        for memory, values in zip(net.parameters.memories, stored, strict=True):
            memory.flat_on_gpu[...] = values
        for layer, state in zip(layers, states, strict=True):
            if state:
                layer.set_state(state)
        if random and random_state:
            random.state = random_state
        self._memories = self._all_memories()

    def _work(self) -> None:
        if self._backward:
            self._net.parameters.diff.flat_on_gpu.fill(0)
        for step in self._steps:
            step.prepare()
            step.ran = True
            step.forward()
        if self._backward:
            for step in self._net.backward_steps:
                if step.first >= self._first:
                    step.backward()

    def _all_shapes(self) -> list[tuple[int, ...]]:
        return [blob.shape for blob in self._net.blobs.values()]

    def _all_memories(self) -> list[tuple[Memory, Any]]:
        """Every memory that is on the GPU, which may be what the graph works on, and where it is there."""
        seen = {id(m): m for blob in self._net.blobs.values() for m in blob.memories}
        seen |= {id(m): m for m in self._net.parameters.memories}
        return [(m, m.flat_on_gpu) for m in seen.values() if m.is_on_gpu]

    def launch(self) -> None:
        """Do the work again, with the values that inputs and parameters have now.

        Raises
        ------
        ArgumentError
            A blob has another shape, or lies elsewhere, than when the pass was recorded.
        """
        self._net.check_gpu()
        if self._first:
            self._net._forward(0, self._first - 1)
        if self._all_shapes() != self._shapes or any(m.flat_on_gpu is not at for m, at in self._memories):
            raise ArgumentError(
                "launch: blobs have other shapes or memory than when the pass was recorded: capture it again"
            )
        for layer in self._net.layers[self._first :]:
            layer.before_launch()
        self._graph.launch()
