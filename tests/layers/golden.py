"""Repeat runs that real Caffe made, as recorded in tests/golden/layers, and compare every number.

A file holds a small net, its inputs and parameters, and what came out: blobs after each forward pass,
parameters after the last one, and gradients after one backward pass.  Keys are a prefix and a name:

=========================  ================================================================================
prototxt, phase, steps     the net, TRAIN or TEST, the number of forward passes
rtol, atol                 tolerance, see `compare`
in_<blob>[_t<k>]           value of an input, of all passes or of pass k
file_<name>                bytes of a file that has to be there when the net is made
outfile_<name>             bytes of an HDF5 file that the net wrote; its data sets are compared
memory_data, memory_label  what a MemoryData layer is given
param_<layer>_<i>          a parameter before the first pass, param_after_... after the last
out_<blob>[_t<k>]          a blob after the only pass, or after pass k
topdiff_<blob>             gradient put into an output; other outputs get 0
bottomdiff_<blob>          gradient found in a blob, paramdiff_<layer>_<i> in a parameter
=========================  ================================================================================
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import h5py
import numpy as np

from caffebn.blob import Blob
from caffebn.net import Net

__all__ = ["FILES", "compare", "run"]

FILES = sorted((Path(__file__).parents[1] / "golden" / "layers").glob("*.npz"))

FACTS = {"format_version", "name", "note", "prototxt", "phase", "steps", "rtol", "atol"}
PREFIXES = ("file", "outfile", "in", "out", "param_after", "param", "topdiff", "bottomdiff", "paramdiff")


def compare(found: np.ndarray, recorded: np.ndarray, rtol: float, atol: float, what: str) -> None:
    """Check ``|found - recorded| <= atol * max(1, max|recorded|) + rtol * |recorded|``, and the shape.

    Raises
    ------
    AssertionError
        Names the array, the worst place, the two values there and how many tolerances lie between.
    """
    assert found.shape == recorded.shape, f"{what}: shape {found.shape}, recorded {recorded.shape}"
    if not recorded.size:
        return
    found, recorded = found.astype(np.float64), recorded.astype(np.float64)
    finite = np.abs(recorded[np.isfinite(recorded)])
    bound = atol * max(1.0, finite.max(initial=0.0)) + rtol * np.abs(recorded)
    equal = (found == recorded) | (np.isnan(found) & np.isnan(recorded))
    with np.errstate(invalid="ignore"):
        ratio = np.where(equal, 0.0, np.abs(found - recorded) / bound)
    ratio[np.isnan(ratio)] = np.inf
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)
    assert ratio[worst] <= 1, (
        f"{what}{[int(i) for i in worst]}: found {found[worst]:.9g}, recorded {recorded[worst]:.9g}, "
        f"{ratio[worst]:.3g} times the tolerance"
    )


def run(path: Path, device: str, dtype: type = np.float32, scale: float = 1.0) -> None:
    """Repeat the run of a file and compare.  Files that the net reads are put into the current folder.

    Parameters
    ----------
    path : Path
        A file of tests/golden/layers.
    device : str
        Back end of the net.
    dtype : {float32, float64}
        Of the net.
    scale : float
        Multiplies the file's tolerances.

    Raises
    ------
    AssertionError
        Something differs, or the file holds what this function does not know.
    """
    with np.load(path, allow_pickle=False) as z:
        record = dict(z)
    arrays = _sorted_by_prefix(record)
    tolerance = float(record["rtol"]) * scale, float(record["atol"]) * scale
    steps = int(record["steps"])

    for name, content in arrays["file"].items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content.tobytes())
    net = Net.from_text(str(record["prototxt"]), str(record["phase"]), device=device, dtype=dtype)
    for name, value in arrays["param"].items():
        _put(_parameter(net, name), value)
    if "memory_data" in record:
        net.set_input_arrays(record["memory_data"], record["memory_label"])
    for t in range(steps):
        for name, value in _of_pass(arrays["in"], t):
            _put(net.blobs[name], value)
        net.forward()
        for name, value in _of_pass(arrays["out"], t):
            compare(net.blobs[name].data, value, *tolerance, f"pass {t}, {name}")
    for name, value in arrays["param_after"].items():
        compare(_parameter(net, name).data, value, *tolerance, f"parameter {name}")
    for name, content in arrays["outfile"].items():
        with h5py.File(name) as found, h5py.File(io.BytesIO(content.tobytes())) as recorded:
            assert set(found) == set(recorded)
            for key in recorded:
                compare(found[key][()], recorded[key][()], *tolerance, f"{name}, {key}")

    if not arrays["bottomdiff"] and not arrays["paramdiff"]:
        return
    net.clear_param_diffs()
    for name in net.outputs:
        net.blobs[name].diff[...] = arrays["topdiff"].get(name, 0)
    net.backward()
    for name, value in arrays["bottomdiff"].items():
        compare(net.blobs[name].diff, value, *tolerance, f"gradient of {name}")
    for name, value in arrays["paramdiff"].items():
        compare(_parameter(net, name).diff, value, *tolerance, f"gradient of parameter {name}")


def _sorted_by_prefix(record: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    arrays: dict[str, dict[str, np.ndarray]] = {prefix: {} for prefix in PREFIXES}
    for key, value in record.items():
        prefix = next((p for p in PREFIXES if key.startswith(p + "_")), None)
        if prefix:
            arrays[prefix][key[len(prefix) + 1 :]] = value
        else:
            assert key in FACTS | {"memory_data", "memory_label"}, f"unknown key {key}"
    return arrays


def _of_pass(arrays: dict[str, np.ndarray], t: int) -> list[tuple[str, np.ndarray]]:
    """Values that belong to pass t: those marked with it, and those not marked with any."""
    found = []
    for key, value in arrays.items():
        mark = re.fullmatch(r"(.+)_t(\d+)", key)
        if mark is None:
            found.append((key, value))
        elif int(mark[2]) == t:
            found.append((mark[1], value))
    return found


def _parameter(net: Net, name: str) -> Blob:
    layer, index = name.rsplit("_", 1)
    return net.params[layer][int(index)]


def _put(blob: Blob, value: np.ndarray) -> None:
    if blob.shape != value.shape:
        blob.reshape(*value.shape)
    blob.data[...] = value
