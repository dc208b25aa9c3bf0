"""Convolution by cuDNN, the one module that imports its front end; used where nvidia-cudnn-frontend is installed.

A plan is made for each operation, geometry, batch and dtype when it is first run, by cuDNN's heuristics, and kept; with
CAFFEBN_CUDNN_TUNE the fastest of several, which may be another one the next time.
Plans are deterministic, their workspace is bounded, and single precision is not shortened to TF32 unless that was
allowed.  Groups of one channel are left to the kernels of conv.cu, and what cuDNN does not do, to cuBLAS.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from caffebn.errors import CaffebnWarning
from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.gpu import device

__all__ = ["TUNED", "WORKSPACE", "describe", "plan"]

WORKSPACE = 256 << 20
"""Bytes of workspace that a plan may use."""

TUNED = int(os.environ.get("CAFFEBN_CUDNN_TUNE", "0"))
"""How many plans are tried at the first call of each convolution; below 2, the one that cuDNN thinks best is taken."""

Plan = Callable[[device.Array, device.Array, device.Array], None]
"""Runs a convolution on images, weights and outputs, of which it writes one."""


@cache
def _cudnn() -> Any:
    """The front end, or None."""
    if os.environ.get("CAFFEBN_CUDNN", "1") == "0":
        return None
    if "cudnn" not in sys.modules and find_spec("cudnn") is None:
        return None
    try:
        device.library("cudart")  # which the front end looks for by name, and CuPy has in itself
        import cudnn

        cudnn.destroy_handle(cudnn.create_handle())
    except Exception as e:  # which one, depends on what of cuDNN is missing
        warnings.warn(
            f"nvidia-cudnn-frontend is installed, but cuDNN cannot be used ({e}): convolutions run on cuBLAS. Install "
            "nvidia-cudnn-cu12 or nvidia-cudnn-cu13, after the version of CUDA, or set CAFFEBN_CUDNN=0",
            CaffebnWarning,
            stacklevel=2,
        )
        return None
    return cudnn


def describe() -> str:
    """Name cuDNN and its version; empty when it is not used."""
    cudnn = _cudnn()
    tuned = f", the fastest of {TUNED} plans" if TUNED > 1 else ""
    return f"cuDNN {cudnn.backend_version()}{tuned}" if cudnn else ""


_local = threading.local()


def _handle() -> Any:
    """The handle of this thread and device; one must not be used by two threads at once."""
    handles = _local.__dict__.setdefault("handles", {})
    index = device.selected()
    if index not in handles:
        handles[index] = _cudnn().create_handle()
    return handles[index]


def _unwanted(cudnn: Any, dtype: np.dtype) -> list[Any]:
    """What no plan may do."""
    notes = cudnn.numerical_note
    if dtype.itemsize != 4:
        return [notes.NONDETERMINISTIC]
    return [
        notes.NONDETERMINISTIC,
        notes.DOWN_CONVERT_INPUTS,
        *([] if device.ALLOW_TF32 else [notes.TENSOR_CORE]),
    ]


def plan(kind: str, g: ConvGeometry, batch: int, dtype: np.dtype) -> Plan | None:
    """Return how cuDNN computes a convolution, or None when it does not.

    Parameters
    ----------
    kind : {"forward", "backward_data", "backward_weight"}
        Fills outputs, images or weights.
    g : ConvGeometry
    batch : int
    dtype : dtype
    """
    if g.is_depthwise or len(g.spatial) > 3 or _cudnn() is None:
        return None
    sizes = (g.channels, g.spatial, g.num_output, g.kernel, g.stride, g.pad, g.dilation, g.group)
    return _plan(kind, sizes, batch, dtype, device.selected())


@cache
def _warn(reason: str) -> None:
    """Say once why cuDNN cannot be used for something."""
    warnings.warn(
        f"cuDNN {_cudnn().backend_version()} failed to plan convolutions ({reason}): they run on cuBLAS. Install other "
        "versions of nvidia-cudnn-frontend and cuDNN, or set CAFFEBN_CUDNN=0",
        CaffebnWarning,
        stacklevel=3,
    )


@cache
def _plan(kind: str, sizes: tuple, batch: int, dtype: np.dtype, index: int) -> Plan | None:
    cudnn = _cudnn()
    try:
        graph, tensors = _operation(cudnn, kind, ConvGeometry(*sizes), batch, dtype)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.deselect_workspace_greater_than(WORKSPACE)
        graph.deselect_numeric_notes(_unwanted(cudnn, dtype))
        graph.check_support()
        graph.build_plans()
    except cudnn.cudnnGraphNotSupportedError:
        return None
    except Exception as e:  # which one, depends on the versions of cuDNN and its front end
        _warn(f"{type(e).__name__}: {e}")
        return None
    return _Convolution(cudnn, graph, tensors)


def _operation(
    cudnn: Any, kind: str, g: ConvGeometry, batch: int, dtype: np.dtype
) -> tuple[Any, dict[str, Any]]:
    """Describe a convolution: a graph of cuDNN's front end, and its tensors x, w and y."""
    real = cudnn.data_type.FLOAT if dtype.itemsize == 4 else cudnn.data_type.DOUBLE
    graph = cudnn.pygraph(
        io_data_type=real, intermediate_data_type=real, compute_data_type=real, handle=_handle()
    )
    missing = max(0, 2 - len(g.spatial))  # cuDNN wants two spatial axes or three

    def padded(values: tuple[int, ...], fill: int) -> list[int]:
        return [fill] * missing + list(values)

    dims = {
        "x": [batch, g.channels, *padded(g.spatial, 1)],
        "w": [g.num_output, g.channels // g.group, *padded(g.kernel, 1)],
        "y": [batch, g.num_output, *padded(g.out_spatial, 1)],
    }
    strides = {name: [int(np.prod(dim[i + 1 :])) for i in range(len(dim))] for name, dim in dims.items()}
    given = {"forward": "xw", "backward_data": "yw", "backward_weight": "xy"}[kind]
    tensors = {
        name: graph.tensor(name=name, dim=dims[name], stride=strides[name], data_type=real) for name in given
    }
    options = {"padding": padded(g.pad, 0), "stride": padded(g.stride, 1), "dilation": padded(g.dilation, 1)}
    if kind == "forward":
        made = graph.conv_fprop(image=tensors["x"], weight=tensors["w"], **options)
    elif kind == "backward_data":
        made = graph.conv_dgrad(loss=tensors["y"], filter=tensors["w"], **options)
    else:
        made = graph.conv_wgrad(image=tensors["x"], loss=tensors["y"], **options)
    (name,) = set("xwy") - set(given)
    tensors[name] = made
    made.set_output(True).set_data_type(real).set_dim(dims[name]).set_stride(strides[name])
    return graph, tensors


class _Convolution:
    """A plan that has been built; with tuning, at its first call the fastest of several."""

    def __init__(self, cudnn: Any, graph: Any, tensors: dict[str, Any]):
        self._cudnn, self._graph, self._tensors = cudnn, graph, tensors
        self._tuned = TUNED < 2
        self._size = graph.get_workspace_size()

    def __call__(self, x: device.Array, w: device.Array, y: device.Array) -> None:
        handle = _handle()
        self._cudnn.set_stream(handle=handle, stream=device.stream())
        arrays = {"x": x, "w": w, "y": y}
        pointers = {self._tensors[name]: device.address(array) for name, array in arrays.items()}
        if not self._tuned:
            self._tune(pointers, handle)
        self._execute(pointers, handle)

    def _execute(self, pointers: dict[Any, int], handle: Any) -> None:
        workspace = device.scratch(-(-self._size // 8), "cuDNN")
        self._graph.execute(pointers, device.address(workspace), handle=handle)

    def _tune(self, pointers: dict[Any, int], handle: Any) -> None:
        """Take the plan that runs fastest, of those that cuDNN thinks best."""
        self._tuned = True
        found: list[tuple[float, int]] = []
        for index in range(self._graph.get_execution_plan_count()):
            try:
                self._take(index)
            except Exception:  # it has been left out, or does not go with this device
                continue
            self._execute(pointers, handle)
            found.append((device.elapsed(lambda: self._execute(pointers, handle)), index))
            if len(found) == TUNED:
                break
        self._take(min(found)[1])

    def _take(self, index: int) -> None:
        self._graph.build_plan_at_index(index)
        self._size = self._graph.get_workspace_size()
