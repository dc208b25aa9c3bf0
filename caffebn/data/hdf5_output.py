"""HDF5Output: blobs into a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.errors import FileError
from caffebn.layers.base import Layer, layer, times
from caffebn.weights import h5py_package

__all__ = ["HDF5Output"]

_NAMES = ("data", "label")


@layer("HDF5Output", "hdf5_output_param")
class HDF5Output(Layer):
    """Write two blobs into an HDF5 file, as the data sets ``data`` and ``label``.

    bottoms (N, ...), two of at most four axes -> no tops.  The data sets have four axes always; missing ones
    have size 1.  Both phases alike.

    The first forward pass makes the file anew; each later one adds its rows.  Between two passes the file is
    closed, and complete.

    Backward: the bottoms get gradient 0.

    Raises
    ------
    NetError
        No `file_name`; more than four axes; bottoms with different first axes.
    FileError
        The file cannot be written.
    MissingPackageError
        Without h5py.

    Notes
    -----
    Caffe can run only one forward pass: a second one ends the process.  Source: Caffe hdf5_output_layer.
    """

    n_bottoms = 2
    n_tops = 0
    on_host = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if not self.param.file_name:
            raise self.error("hdf5_output_param must give file_name", "file_name")
        h5py_package(f'Layer "{self.name}" (HDF5Output)')
        self.rows = 0

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for i, blob in enumerate(bottom):
            if not 1 <= len(blob.shape) <= 4:
                raise self.error(f"a bottom needs 1 to 4 axes, found {self.shown(bottom, i)}", "bottom", i)
        if bottom[0].shape[0] != bottom[1].shape[0]:
            raise self.error(
                f"the bottoms need the same number of items, found {self.shown(bottom, 0)} and "
                f"{self.shown(bottom, 1)}",
                "bottom",
            )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        path = self.param.file_name
        h5py = h5py_package(f'Layer "{self.name}" (HDF5Output)')
        end = self.rows + bottom[0].shape[0]
        try:
            with h5py.File(path, "r+" if self.rows else "w") as f:
                for name, blob in zip(_NAMES, bottom, strict=True):
                    values = blob.data.reshape(*blob.shape, *[1] * (4 - len(blob.shape)))
                    if not self.rows:
                        f.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]))
                        continue
                    if f[name].shape != (self.rows, *values.shape[1:]):
                        raise self.error(
                            f'"{path}": rows of {times(values.shape[1:])} cannot be added to the data set "{name}", '
                            f"which is {times(f[name].shape)}",
                            "file_name",
                        )
                    f[name].resize(end, axis=0)
                    f[name][self.rows :] = values
        except (OSError, KeyError) as e:
            raise FileError(
                f'layer "{self.name}" (HDF5Output): "{path}" cannot be written: {e}', self.spec.where
            ) from e
        self.rows = end

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for down, blob in zip(propagate_down, bottom, strict=True):
            if down:
                self.ops.fill(blob.diff, 0.0)
