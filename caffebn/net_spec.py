"""Nets written in Python, pycaffe's way.

Examples
--------
>>> from caffebn import NetSpec, layers as L, params as P
>>> n = NetSpec()
>>> n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
>>> n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, weight_filler=dict(type="msra"))
>>> n.relu = L.ReLU(n.conv, in_place=True)
>>> n.pool = L.Pooling(n.relu, pool=P.Pooling.AVE, global_pooling=True)
>>> n.to_proto().layer[3]
<LayerParameter name='pool' type='Pooling' bottom=['conv'] top=['pool'] pooling_param={...}>
>>> print(n.to_proto().layer[3].pooling_param, end="")
pool: AVE
global_pooling: true
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from caffebn.errors import ArgumentError, CaffebnError, did_you_mean
from caffebn.proto import Message
from caffebn.proto.schema import enums, messages, parameter_field

__all__ = ["Function", "NetSpec", "Top", "layers", "params", "to_proto"]


class Top:
    """One output of a layer, to be the input of others.

    Attributes
    ----------
    fn : Function
        The layer that makes it.
    n : int
        Its number among the layer's tops.
    """

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> Message:
        """Return the net of all layers that this top needs; see `caffebn.net_spec.to_proto`."""
        return to_proto(self)

    def __repr__(self) -> str:
        return f"<top {self.n} of {self.fn.type_name}>"


class Function:
    """A layer: its type, its inputs and its parameters.

    Parameters
    ----------
    type_name : str
        Caffe's type string.
    inputs : iterable of Top
        The bottoms.
    params : mapping
        Fields of the type's own parameter message (ConvolutionParameter for a Convolution) and of
        LayerParameter.  A message may be written as a dict, a list of one element as that element.
        Two more are no fields: `ntop`, the number of tops (default 1), and `in_place` (default False), which
        makes the first bottoms the tops.

    Attributes
    ----------
    type_name : str
    inputs : tuple of Top
    params : dict
        Without `ntop` and `in_place`.
    ntop : int
    in_place : bool
    tops : tuple of Top

    Raises
    ------
    ArgumentError
        An input that is not a Top, a parameter that the layer does not have or that cannot have this value.
    """

    def __init__(self, type_name: str, inputs: Iterable[Top] = (), params: Mapping[str, Any] | None = None):
        self.type_name = type_name
        self.inputs = tuple(inputs)
        self.params = dict(params or {})
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        for i, top in enumerate(self.inputs):
            if not isinstance(top, Top):
                raise self._error(f"input {i}: expected a top, such as n.data, found {_shown(top)}")
        if not isinstance(self.ntop, int) or self.ntop < 0:
            raise self._error(f"ntop: expected the number of tops, 0 or more, found {self.ntop!r}")
        if self.in_place and self.ntop > len(self.inputs):
            raise self._error(f"in_place: {self.ntop} tops need as many inputs, found {len(self.inputs)}")
        self.tops = tuple(Top(self, n) for n in range(self.ntop))
        self.layer()  # wrong parameters are refused where they are written, not where the net is made

    def update(self, params: Mapping[str, Any]) -> None:
        """Change parameters.

        Raises
        ------
        ArgumentError
            As when the layer is made; its parameters are then as they were.
        """
        before = self.params
        self.params = {**before, **params}
        try:
            self.layer()
        except ArgumentError:
            self.params = before
            raise

    def layer(self) -> Message:
        """Return the layer as a LayerParameter with its parameters, without names, bottoms and tops."""
        made = Message("LayerParameter", type=self.type_name)
        own = parameter_field(self.type_name)
        for name, value in self.params.items():
            if own and name in own.type.fields:
                target = made.mutable(own.name)
            elif name in made.schema.fields:
                target = made
            else:
                raise self._unknown(name)
            try:
                _assign(target, name, value)
            except (CaffebnError, AttributeError) as e:
                raise self._error(str(e)) from None
        return made.copy()  # messages among the parameters stay the caller's own

    def _unknown(self, name: str) -> ArgumentError:
        fields = messages["LayerParameter"].fields
        own = parameter_field(self.type_name)
        if own:
            known = {**own.type.fields, **fields}
            return self._error(
                f'there is no parameter "{name}" in {own.type_name} nor in LayerParameter'
                + did_you_mean(name, known)
            )
        holders = [f.name for f in fields.values() if f.name.endswith("_param") and name in f.type.fields]
        if holders:
            hint = f"; a type without parameters of its own needs {' or '.join(holders)}=dict({name}=...)"
        else:
            hint = did_you_mean(name, fields)
        return self._error(f'there is no parameter "{name}" in LayerParameter{hint}')

    def _error(self, words: str) -> ArgumentError:
        return ArgumentError(f"{self.type_name}: {words}")

    def __repr__(self) -> str:
        return f"<{self.type_name} with {len(self.inputs)} inputs and {self.ntop} tops>"


def to_proto(*tops: Top | Function) -> Message:
    """Return the net of all layers that these tops need, in the order of a depth-first search.

    Names are made of the type and a number: ``Convolution1``.  `NetSpec` gives names of your own.

    Parameters
    ----------
    *tops : Top, or Function without tops

    Returns
    -------
    Message
        A NetParameter; ``str()`` of it is its prototxt.
    """
    return _net(tops, {})


class NetSpec:
    """The tops of a net and their names: assign a top to an attribute to name it, and its layer.

    Attributes
    ----------
    tops : OrderedDict of Top
        By name.  A layer without tops (``ntop=0``) may be among them, as a Function.

    Examples
    --------
    >>> n = NetSpec()
    >>> n.data, n.label = layers.DummyData(shape=[dict(dim=[4, 3]), dict(dim=[4])], ntop=2)
    >>> n["score"] = layers.InnerProduct(n.data, num_output=2)
    >>> n.loss = layers.SoftmaxWithLoss(n.score, n.label)
    >>> [layer.name for layer in n.to_proto().layer]
    ['data', 'score', 'loss']
    """

    tops: OrderedDict[str, Top | Function]

    def __init__(self) -> None:
        self.__dict__["tops"] = OrderedDict()

    def __setattr__(self, name: str, top: Top | Function) -> None:
        if isinstance(top, tuple) and all(isinstance(t, Top) for t in top):
            raise ArgumentError(
                f'NetSpec: "{name}" was given {len(top)} tops; name each of them, as in '
                "n.data, n.label = L.Data(..., ntop=2)"
            )
        if not isinstance(top, Top) and not (isinstance(top, Function) and not top.tops):
            raise ArgumentError(f'NetSpec: "{name}": expected a top, found {_shown(top)}')
        self.tops[name] = top

    __setitem__ = __setattr__

    def __getattr__(self, name: str) -> Any:
        tops = self.__dict__.get("tops", {})  # a copy that is being made has none yet
        try:
            return tops[name]
        except KeyError:
            raise AttributeError(f'NetSpec has no top "{name}"{did_you_mean(name, tops)}') from None

    def __getitem__(self, name: str) -> Any:
        if name not in self.tops:
            raise ArgumentError(f'NetSpec has no top "{name}"{did_you_mean(name, self.tops)}')
        return self.tops[name]

    def __delitem__(self, name: str) -> None:
        self[name]
        del self.tops[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tops]

    def keys(self) -> list[str]:
        """Return the names."""
        return list(self.tops)

    def update(self, name: str, params: Mapping[str, Any]) -> None:
        """Change parameters of the layer that makes the top of that name."""
        top = self[name]
        (top.fn if isinstance(top, Top) else top).update(params)

    def to_proto(self) -> Message:
        """Return the net of all layers that the named tops need, in the order in which they were named.

        Returns
        -------
        Message
            A NetParameter; ``str()`` of it is its prototxt.
        """
        return _net(self.tops.values(), {top: name for name, top in self.tops.items()})


class _Layers:
    """One function for each layer type: ``layers.Convolution(bottom, kernel_size=3)`` makes a layer's tops.

    Any name that begins with a capital is taken for a layer type, so types that are not there yet can be
    written, too.
    """

    def __getattr__(self, type_name: str) -> Callable[..., Any]:
        if not type_name[:1].isupper():
            raise AttributeError(f'there is no layer type "{type_name}"; types begin with a capital')

        def make(*inputs: Top, **params: Any) -> Any:
            fn = Function(type_name, inputs, params)
            return fn if fn.ntop == 0 else fn.tops[0] if fn.ntop == 1 else fn.tops

        make.__name__ = make.__qualname__ = type_name
        make.__doc__ = (
            f"Make a layer of type {type_name}.\n\n"
            "Give its bottoms, then its parameters by name; returns its top, with ntop=2 or more a tuple of tops,"
            " with ntop=0 the layer.\n\n"
            f"Parameters of its own: {', '.join(_own_fields(type_name)) or 'none'}."
        )
        return make


class _Params:
    """The values of enums, by parameter message: ``params.Pooling.MAX`` is "MAX"."""

    def __getattr__(self, name: str) -> _Values:
        if f"{name}Parameter" not in messages:
            known = [message.removesuffix("Parameter") for message in messages]
            raise AttributeError(f'there is no message "{name}Parameter"{did_you_mean(name, known)}')
        return _Values(f"{name}Parameter")


class _Values:
    def __init__(self, message: str):
        self._message = message
        self.__dict__.update(
            (value, value)
            for name, enum in enums.items()
            if name.startswith(f"{message}.")
            for value in enum.by_name
        )

    def __getattr__(self, name: str) -> str:
        values = [value for value in self.__dict__ if value != "_message"]
        known = f": it has {', '.join(values)}" if values else ""
        raise AttributeError(f'{self._message} has no value "{name}"{known}')


layers = _Layers()
params = _Params()


def _own_fields(type_name: str) -> list[str]:
    own = parameter_field(type_name)
    return list(own.type.fields) if own else []


def _net(tops: Iterable[Top | Function], names: dict[Top | Function, str]) -> Message:
    net = Message("NetParameter")
    taken = set(names.values())
    numbers: Counter[str] = Counter()
    made: dict[Function, Message] = {}

    def name(thing: Top | Function, type_name: str) -> str:
        while thing not in names:
            numbers[type_name] += 1
            made_up = f"{type_name}{numbers[type_name]}"
            if made_up not in taken:
                names[thing] = made_up
        return names[thing]

    for fn in _in_order(tops):
        layer = made[fn] = fn.layer()
        bottoms = [made[top.fn].top[top.n] for top in fn.inputs]
        own_tops = bottoms[: fn.ntop] if fn.in_place else [name(top, fn.type_name) for top in fn.tops]
        layer.bottom = [*bottoms, *layer.bottom]
        layer.top = [*own_tops, *layer.top]
        own_name = name(fn.tops[0] if fn.tops else fn, fn.type_name)
        if not layer.has("name"):
            layer.name = own_name
        net.layer.append(layer)
    return net


def _in_order(tops: Iterable[Top | Function]) -> Iterable[Function]:
    """Yield the layers that the tops need, inputs first; by a stack, since nets are deeper than Python's."""
    done: set[Function] = set()
    stack = [top.fn if isinstance(top, Top) else top for top in tops][::-1]
    while stack:
        fn = stack[-1]
        missing = [top.fn for top in fn.inputs if top.fn not in done]
        if missing:
            stack += missing[::-1]
            continue
        stack.pop()
        if fn not in done:
            done.add(fn)
            yield fn


def _assign(message: Message, name: str, value: Any) -> None:
    """Set a field from Python values: dicts are messages, what is not a list is a list of one element."""
    field = message.schema.field(name)
    if field.repeated and not field.array:
        one = isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable)
        for element in [value] if one else value:
            if isinstance(element, Mapping) and field.kind == "message":
                _assign_all(getattr(message, name).add(), element)
            else:
                getattr(message, name).append(element)
    elif isinstance(value, Mapping) and field.kind == "message":
        _assign_all(message.mutable(name), value)
    else:
        setattr(message, name, value)


def _assign_all(message: Message, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        _assign(message, name, value)


def _shown(value: Any) -> str:
    if isinstance(value, Function):
        return f"a {value.type_name} layer without tops"
    if isinstance(value, (tuple, list)) and value and all(isinstance(v, Top) for v in value):
        return f"a {type(value).__name__} of {len(value)} tops: give them one by one, as in L.Concat(*tops)"
    return f"{value!r:.60} ({type(value).__name__})"
