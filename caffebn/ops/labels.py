"""What all back ends say about a label that is no class."""

from __future__ import annotations

from caffebn.errors import ArgumentError

__all__ = ["bad_label"]


def bad_label(op: str, label: float, place: int, classes: int) -> ArgumentError:
    """Make the error for the label at index `place` of the flat labels, with `classes` classes."""
    return ArgumentError(
        f"{op}: label must hold classes from 0 to {classes - 1}; found {float(label):g} at index {place}. "
        f"Check the labels of the data, or the number of outputs of the layer that makes the scores"
    )
