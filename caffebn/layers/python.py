"""Python: layers that a user writes, with pycaffe's interface."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from caffebn.blob import Blob
from caffebn.errors import did_you_mean
from caffebn.layers.base import Layer, layer
from caffebn.proto import Message

__all__ = ["Python", "PythonBlobs", "PythonLayer"]

_PHASES = {"TRAIN": 0, "TEST": 1}


class PythonBlobs(list[Blob]):
    """The parameters of a layer written in Python: a list that `add_blob` makes longer."""

    def __init__(self, owner: Layer):
        super().__init__()
        self._owner = owner

    def add_blob(self, *shape: int) -> Blob:
        """Append a parameter of that shape, 0 at first; called in `setup`."""
        return self._owner.add_blob(shape)


class PythonLayer:
    """Base of layers written in Python: ``caffebn.Layer``, what pycaffe calls ``caffe.Layer``.

    A net runs a subclass where its text says
    ``type: "Python" python_param { module: "my_module" layer: "MyClass" param_str: "..." }``.
    A subclass writes `reshape` and `forward`, `backward` if it has a gradient, and `setup` if it has
    something to prepare.  `bottom` and `top` are sequences of `Blob`.

    Parameters
    ----------
    param : Message
        The LayerParameter.

    Attributes
    ----------
    param_str : str
        The text of that name in `python_param`, for options of any kind.
    phase : int
        `caffebn.TRAIN` or `caffebn.TEST`.
    blobs : PythonBlobs
        Parameters, learned and stored with the net: ``self.blobs.add_blob(3, 4)`` in `setup` makes one.
    """

    param_str: str
    phase: int
    blobs: PythonBlobs

    def __init__(self, param: Message | None = None):
        pass

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Once, when the net is made: check the number of blobs, read `param_str`, add parameters."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """When the net is made and before each forward pass: shape the tops with ``top[0].reshape(...)``."""
        raise NotImplementedError

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Fill the tops: ``top[0].data[...] = ...``."""
        raise NotImplementedError

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Overwrite ``bottom[i].diff`` where ``propagate_down[i]``; add to the diffs of `blobs`."""
        raise NotImplementedError

    def get_state(self) -> dict[str, Any]:
        """Return what the next forward pass depends on, such as a place in the data, in values fit for JSON.

        A solver keeps it in its snapshots.  pycaffe has no such method, and never calls it.
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where the layer was when `get_state` was called."""


@layer("Python", "python_param")
class Python(Layer):
    """Run a class that a user has written, derived from `caffebn.Layer`.

    any number of bottoms -> any number of tops, as the class likes; in place, too.  `python_param` gives
    `module`, which is imported, `layer`, the name of the class in it, and `param_str`, a text for the class.
    Blobs are those that the class adds.  The field ``share_in_parallel`` has no effect.

    The class's `reshape` runs before each forward pass, as in Caffe, so that a layer may load its data there.
    It has a gradient if it writes `backward`, which finds the bottoms' and tops' data as they were after its
    forward pass, even where a layer has worked in place since.

    Raises
    ------
    NetError
        The module cannot be imported, has no such class, or the class is not derived from `caffebn.Layer` or
        lacks `reshape` or `forward`.

    Notes
    -----
    What the class raises comes through as it is.
    Sources: Caffe python_layer, pycaffe.
    """

    n_bottoms = (0, None)
    n_tops = (0, None)
    in_place = True
    reshapes_each_pass = True
    on_host = True

    @property
    def reads(self) -> Iterable[str]:
        return ("bottom", "top") if self.has_backward else ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        cls = self._load()
        self.has_backward = cls.backward is not PythonLayer.backward  # type: ignore[misc]
        self.blobs = blobs = PythonBlobs(self)
        self.code = cls(self.spec)
        self.code.param_str = self.param.param_str
        self.code.phase = _PHASES[self.phase]
        self.code.blobs = blobs
        self.code.setup(bottom, top)

    def _load(self) -> type[PythonLayer]:
        for field in ("module", "layer"):
            if not getattr(self.param, field):
                raise self.error(f"python_param must give {field}", "python_param")
        module_name, class_name = self.param.module, self.param.layer
        try:
            module = import_module(module_name)
        except ImportError as e:
            hint = (
                "write `import caffebn as caffe` in it"
                if e.name == "caffe"
                else "its folder must be on Python's path, for example in the environment variable PYTHONPATH"
            )
            raise self.error(f'the module "{module_name}" cannot be imported ({e}): {hint}', "module") from e
        cls = getattr(module, class_name, None)
        if cls is None:
            raise self.error(
                f'the module "{module_name}" ({module.__file__}) has no class "{class_name}"'
                f"{did_you_mean(class_name, vars(module))}",
                "layer",
            )
        if not (isinstance(cls, type) and issubclass(cls, PythonLayer)):
            raise self.error(
                f"{module_name}.{class_name} must be a class derived from caffebn.Layer", "layer"
            )
        for method in ("reshape", "forward"):
            if getattr(cls, method) is getattr(PythonLayer, method):
                raise self.error(f"the class {module_name}.{class_name} has to write {method}", "layer")
        return cls

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.code.reshape(bottom, top)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.code.forward(bottom, top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.code.backward(top, propagate_down, bottom)

    def get_state(self) -> dict[str, Any]:
        return self.code.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self.code.set_state(state)
