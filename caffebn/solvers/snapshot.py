"""Snapshots: a file of weights and a file with the solver's state, both as Caffe reads and writes them.

Caffe's solver state holds the iteration, the name of the weights file, the step counter and the history.  To
go on *exactly* where training was, more is needed: the random generator, and the places where data layers were.
This `Resumption` travels inside the same file, where Caffe does not look: as an unknown field of the message, which
every protocol buffer reader skips, or as one more data set of the HDF5 file.  It is JSON, to be read without
trust.  It also has a checksum of the weights file, so that a pair that does not belong together is noticed.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from caffebn.errors import CaffebnWarning, FileError, FormatError
from caffebn.files import replacing
from caffebn.net import Net
from caffebn.proto import Message, binary, blob_array, make_blob
from caffebn.proto.unknown import UnknownBinary
from caffebn.weights import h5py_package

__all__ = ["FIELD", "Resumption", "State", "checksum", "find_weights", "read_state", "write_snapshot"]

FIELD = 51966
"""Number of the field of SolverState in which a Resumption travels: beyond those that Caffe and its forks use."""

_BYTES = 2  # wire type of counted bytes
_NAME = "caffebn"  # of the data set in the HDF5 form
_PURPOSE = "a solver state in HDF5 form"


@dataclass
class Resumption:
    """What exact resumption needs beyond Caffe's solver state.

    Attributes
    ----------
    type : str
        The solver's type.
    weights_crc32 : int
        Of the bytes of the weights file; filled in when the pair is written.
    random : dict
        The state of the random generator, see `caffebn.seeding.get_state`.
    layers : list of dict
        For the train net and each test net: `Layer.get_state` by layer name, where there is any.
    """

    type: str
    random: dict[str, Any]
    layers: list[dict[str, dict[str, Any]]]
    weights_crc32: int = 0


@dataclass
class State:
    """What a .solverstate or .solverstate.h5 holds.

    Attributes
    ----------
    iteration : int
        Completed iterations.
    current_step : int
        Step counter of the learning-rate policy.
    learned_net : str
        Name of the weights file, as it was when it was written; "" when the state names none.
    history : list of ndarray
        The solver's history, set after set, in net order.
    resumption : Resumption or None
        None when the file was not written by caffebn.
    """

    iteration: int
    current_step: int = 0
    learned_net: str = ""
    history: Sequence[np.ndarray] = field(default_factory=list)
    resumption: Resumption | None = None


# -- writing -----------------------------------------------------------------------------------------


def write_snapshot(model: str, path: str, net: Net, state: State, diff: bool) -> None:
    """Write a pair of files, in HDF5 form when their names end in .h5.

    Each file is written whole or not at all, and neither takes its place before both are complete: when
    anything fails (a full disk, say), an older pair of the same names is untouched.

    Parameters
    ----------
    model, path : str
        Names of the weights file and of the state file.
    net : Net
    state : State
        Its `learned_net` and the checksum of its resumption are filled in.
    diff : bool
        Store the diffs of the parameters with the weights.

    Raises
    ------
    FileError
        The files cannot be written.
    """
    hdf5 = path.endswith(".h5")
    state.learned_net = model
    with replacing(path) as unnamed_state:
        with replacing(model) as unnamed_model:
            (net.save_hdf5 if hdf5 else net.save)(unnamed_model, diff)
            if state.resumption is not None:
                state.resumption.weights_crc32 = checksum(unnamed_model)
            (_write_hdf5 if hdf5 else _write_binary)(unnamed_state, state)


def checksum(path: str | os.PathLike[str]) -> int:
    """Return the CRC-32 of a file."""
    value = 0
    with open(path, "rb") as f:
        while block := f.read(2**20):
            value = zlib.crc32(block, value)
    return value


def _write_binary(path: Path, state: State) -> None:
    message = Message(
        "SolverState",
        iter=state.iteration,
        learned_net=state.learned_net,
        history=[make_blob(array) for array in state.history],
        current_step=state.current_step,
    )
    if state.resumption is not None:
        message.unknown.append(UnknownBinary(FIELD, _BYTES, _to_json(state.resumption)))
    binary.write(path, message)


def _write_hdf5(path: Path, state: State) -> None:
    h5py = h5py_package(_PURPOSE)
    with h5py.File(path, "w") as file:
        for name, number in (("iter", state.iteration), ("current_step", state.current_step)):
            file.create_dataset(name, data=np.array([number], np.int32))
        texts = {"learned_net": os.fsencode(state.learned_net)}
        if state.resumption is not None:
            texts[_NAME] = _to_json(state.resumption)
        for name, content in texts.items():
            # Caffe reads up to a zero byte, so there has to be one
            file.create_dataset(name, data=np.array(content, f"S{len(content) + 1}"))
        history = file.create_group("history")
        for i, array in enumerate(state.history):
            history.create_dataset(str(i), data=array)


def _to_json(resumption: Resumption) -> bytes:
    return json.dumps(asdict(resumption), separators=(",", ":")).encode()


# -- reading -----------------------------------------------------------------------------------------


def read_state(path: str | os.PathLike[str]) -> State:
    """Read a solver state: HDF5 when the name ends in .h5, else binary.

    Raises
    ------
    FileError
        The file cannot be read.
    FormatError
        It is damaged, or no solver state.
    MissingPackageError
        It is an HDF5 file, and h5py is not installed.
    """
    return _read_hdf5(path) if str(path).endswith(".h5") else _read_binary(path)


def _read_binary(path: str | os.PathLike[str]) -> State:
    message = binary.read(path, "SolverState")
    if not message.has("iter"):
        raise FormatError(
            f"{path}: not a solver state, it says no iteration number; expected a .solverstate file, "
            "not the .caffemodel written with it"
        )
    content = [u.data for u in message.unknown if isinstance(u, UnknownBinary) and u.number == FIELD]
    return State(
        message.iter,
        message.current_step,
        message.learned_net,
        [blob_array(blob, f"{path}: history {i}") for i, blob in enumerate(message.history)],
        _from_json(path, content[-1]) if content else None,
    )


def _read_hdf5(path: str | os.PathLike[str]) -> State:
    h5py = h5py_package(_PURPOSE)
    if not Path(path).is_file():
        raise FileError(f"{path}: there is no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as e:
        raise FormatError(f"{path}: not an HDF5 file: {e}") from None
    with file:
        values: dict[str, np.ndarray] = {}
        for name, kinds in (("iter", "iu"), ("current_step", "iu"), ("learned_net", "S"), (_NAME, "S")):
            entry = file.get(name)
            if isinstance(entry, h5py.Dataset) and entry.dtype.kind in kinds and entry.size == 1:
                values[name] = np.asarray(entry).reshape(-1)[0]
        group = file.get("history")
        if "iter" not in values or not isinstance(group, h5py.Group):
            raise FormatError(
                f'{path}: not a solver state: expected a data set "iter" and a group "history", '
                f"found {', '.join(sorted(file)) or 'nothing'}"
            )
        history = []
        for i in range(len(group)):
            entry = group.get(str(i))
            if not isinstance(entry, h5py.Dataset) or entry.dtype.kind != "f":
                raise FormatError(
                    f"{path}: history: expected data sets 0 to {len(group) - 1} of real numbers, "
                    f"found {', '.join(sorted(group)[:8])}"
                )
            history.append(np.asarray(entry))
    return State(
        int(values["iter"]),
        int(values.get("current_step", 0)),
        os.fsdecode(bytes(values.get("learned_net", b""))),
        history,
        _from_json(path, bytes(values[_NAME])) if _NAME in values else None,
    )


def _from_json(path: str | os.PathLike[str], content: bytes) -> Resumption:
    """Read a Resumption, trusting nothing but that JSON gives plain values."""
    try:
        values = json.loads(content)
        # a later version may have added more
        resumption = Resumption(**{f.name: values[f.name] for f in fields(Resumption)})
    except (KeyError, RecursionError, TypeError, ValueError) as e:
        raise FormatError(
            f"{path}: what caffebn added to the solver state is damaged: {type(e).__name__}: {e}"
        ) from None
    layers = resumption.layers
    if not (
        isinstance(resumption.type, str)
        and isinstance(resumption.weights_crc32, int)
        and isinstance(resumption.random, dict)
        and isinstance(layers, list)
        and all(isinstance(net, dict) for net in layers)
        and all(isinstance(layer, dict) for net in layers for layer in net.values())
    ):
        raise FormatError(f"{path}: what caffebn added to the solver state has values of the wrong kind")
    return resumption


def find_weights(path: str | os.PathLike[str], state: State) -> str:
    """Return the path of the weights that belong to a solver state, "" when it names none.

    The name is looked for from the current directory, as Caffe does, and else beside the state.

    Parameters
    ----------
    path : path-like
        Of the state.
    state : State

    Raises
    ------
    FileError
        There is no such file.
    FormatError
        By the checksum, it is not the file that was written with the state.

    Warns
    -----
    CaffebnWarning
        The state names no weights, or they were found beside the state and there is no checksum to prove them.
    """
    if not state.learned_net:
        warnings.warn(
            f"{path}: names no weights, so the net keeps the parameters that it has",
            CaffebnWarning,
            stacklevel=3,
        )
        return ""
    weights = Path(state.learned_net)
    if not weights.exists():
        weights = Path(path).parent / weights.name
        if not weights.exists():
            raise FileError(
                f'{path}: its weights, "{state.learned_net}", are neither found from the current directory, '
                f"{os.getcwd()}, nor beside the solver state"
            )
        if state.resumption is None:
            warnings.warn(
                f'{path}: its weights, "{state.learned_net}", are not found from the current directory, {os.getcwd()}; '
                f"took {weights}, which lies beside the solver state",
                CaffebnWarning,
                stacklevel=3,
            )
    if state.resumption is not None and checksum(weights) != state.resumption.weights_crc32:
        raise FormatError(
            f"{weights}: not the weights that were written with {path}: the file was changed since, or belongs to "
            "another training; net.copy_from() loads weights without a solver state"
        )
    return str(weights)
