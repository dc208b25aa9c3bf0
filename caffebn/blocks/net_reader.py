"""A reader of nets that may have blocks, templates and includes; it makes the layers while it reads.

A template is kept as the piece of text that it is.  To make a block, the reader goes to the body of its
template, reads it into the net, and goes back.  So one reader checks names, types and ranges in plain
nets and in templates alike, and every message knows its place in the template.
"""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from caffebn.blocks.body_reader import MAX_NAME, STEP, BodyReader
from caffebn.blocks.channels import Channels
from caffebn.blocks.expressions import FUNCTIONS, Function, describe
from caffebn.blocks.places import Inside
from caffebn.blocks.template import KINDS, Parameter, Template, accepted
from caffebn.errors import FileError, did_you_mean
from caffebn.proto import Message, text
from caffebn.proto.schema import message_type
from caffebn.proto.source import Source

__all__ = ["MAX_INCLUDES", "NetReader", "builtin"]

#: How deep files may include each other.
MAX_INCLUDES = 16

_IN_INCLUDED = ("layer", "block", "template", "include")
_RULES = ("include", "exclude")
_IMPLIED = ("name", "bottom", "top")  # parameters that every template has
_DEFAULT_KINDS = {"true": "bool", "True": "bool", "false": "bool", "False": "bool", "inf": "float", "nan": "float",
                  "none": None}  # fmt: skip


@dataclass
class _Given:
    """What a block states under one name: at which offset, and the values."""

    at: int
    values: list[Any] = field(default_factory=list)
    listed: bool = False

    def add(self, value: Any) -> None:
        """Take one more value, or a list of them."""
        self.listed = self.listed or bool(self.values) or isinstance(value, list)
        self.values += value if isinstance(value, list) else [value]

    @property
    def value(self) -> Any:
        """The value as it was stated: a list when it was one, or was stated more than once."""
        return self.values if self.listed else self.values[0]


class NetReader(BodyReader):
    """Reads a net, with its blocks, templates and includes.

    Attributes
    ----------
    templates : dict of str to Template
        Those that were read, by name.
    """

    def __init__(self, source: str, filename: str, strict: bool):
        self.templates: dict[str, Template] = {}
        self._library: Mapping[str, Template] = self.templates
        self._net = Message("NetParameter")
        self._channels = Channels()
        self._open = [os.path.realpath(filename)] if os.path.isfile(filename) else []
        self._included: set[str] = set()
        super().__init__(source, filename, strict)
        self._functions = {**FUNCTIONS, "channels": Function(1, 1, self._count_channels)}

    def _unknown_field(self, message: Message, name: str, at: int, colon: bool, depth: int) -> None:
        if message.schema.name != "NetParameter" or name not in ("block", "template", "include"):
            super()._unknown_field(message, name, at, colon, depth)
            return
        self._check_depth(at, depth)
        if name == "block":
            self._block(message, at, depth + 1)
        elif self._inside:
            self._error(f"{name} stands at the top level of a file, not in a template", at)
        elif name == "template":
            self._template(at)
        elif colon:
            self._include(message, depth + 1)
        else:
            self._expected('":" after include')

    # -- includes

    def _include(self, net: Message, depth: int) -> None:
        """Read the entries of another file into the net, unless that has been done."""
        if self._kind != "string":
            self._expected("the name of a file in quotes")
        at, name = self._at, self._joined().decode("utf-8", "surrogateescape")
        path = os.path.normpath(os.path.join(os.path.dirname(self._source.filename), name))
        if not os.path.isfile(path):
            self._error(f"cannot include {describe(name)}: there is no such file, looked for {path}", at)
        key = os.path.realpath(path)
        if key in self._open:
            circle = [*self._open[self._open.index(key) :], key]
            self._error(
                f"files include each other in a circle: {' -> '.join(map(os.path.basename, circle))}", at
            )
        if key in self._included:
            return
        if len(self._open) > MAX_INCLUDES:
            self._error(f"files include each other more than {MAX_INCLUDES} deep", at)
        try:
            content = text.load(path)
        except FileError as e:
            self._error(f"cannot include {describe(name)}: {e.message}", at)
        back = self._here()
        self._open.append(key)
        self._go_to(content, Source(path, content), 0)
        self._included_entries(net, depth)
        self._included.add(self._open.pop())
        self._go_to(*back)

    def _included_entries(self, net: Message, depth: int) -> None:
        while self._kind is not None:
            if self._token not in _IN_INCLUDED:
                self._expected(f"{', '.join(_IN_INCLUDED)} in an included file")
            self._field(net, depth)

    # -- templates

    def _template(self, at: int) -> None:
        """Read the head of a template, and step over its body."""
        begin = self._here()
        self._open_bracket("a template")
        if not self._is_word("name"):
            self._expected('name: "..." at the beginning of a template')
        self._advance()
        if not self._take(":") or self._kind != "string":
            self._expected("the name of the template in quotes")
        name_at, name = self._at, self._joined().decode("utf-8", "surrogateescape")
        if not (name.isidentifier() and len(name) <= MAX_NAME):
            self._error(
                f"the name of a template is one word of letters and digits, found {describe(name)}", name_at
            )
        self._separator()
        first = self.templates.get(name)
        if first:
            self._error(f'template "{name}" is defined already, at {first.source.where(first.at)}', name_at)
        declared = self._declarations() if self._is_word("param") else {}
        # the defaults of others may use the first two, that of top may use others
        parameters = {
            "name": Parameter("name", "string"),
            "bottom": Parameter("bottom", "string"),
            **declared,
        }
        parameters.setdefault("top", Parameter("top", "string"))
        self.templates[name] = Template(
            name, self._text, self._source, at, self._at, parameters, self.templates
        )
        self._go_to(*begin)
        self._skip_message()

    def _declarations(self) -> dict[str, Parameter]:
        """Read ``param { width: int  stride: 1 }``: parameters with their kinds or defaults."""
        self._advance()
        self._take(":")
        close = self._open_bracket("param")
        declared: dict[str, Parameter] = {}
        while not self._at_end():
            at, name = self._at, self._new_name("parameter")
            if name in declared:
                self._error(f'parameter "{name}" is declared twice', at)
            if not self._take(":") and not self._at_bracket():
                self._expected(f'":" after {name}')
            declared[name] = self._declaration(name)
            if name in _IMPLIED and declared[name].kind not in (None, "string"):
                self._error(f'parameter "{name}" is a string, or a list of strings', at)
            self._separator()
        self._close_bracket(close)
        self._separator()
        return declared

    def _declaration(self, name: str) -> Parameter:
        at = self._at
        listed = self._take("[")
        needed = self._kind == "word" and self._token in KINDS
        kind = self._token if needed else self._kind_of_default()
        if not (listed and self._take("]")):
            self._skip_value()
            while listed and not self._take("]"):
                if not self._take(","):
                    self._expected('"," or "]"')
                self._skip_value()
        return Parameter(name, kind, listed, None if needed else at)

    def _kind_of_default(self) -> str | None:
        self._take("-")
        if self._at_bracket():
            return "message"
        if self._kind == "number":
            return "int" if self._token.isdigit() or self._token[:2] in ("0x", "0X") else "float"
        if self._kind == "word" and self._token in _DEFAULT_KINDS:
            return _DEFAULT_KINDS[self._token]
        return "string" if self._kind in ("word", "string") else None

    def _skip_value(self) -> None:
        if self._at_bracket():
            self._skip_message()
        elif self._kind == "string":
            while self._kind == "string":
                self._advance()
        elif self._kind in ("number", "word", "expression"):
            self._advance()
        else:
            self._expected("a value")

    # -- blocks

    def _block(self, net: Message, at: int, depth: int) -> None:
        """Make the layers of a block."""
        if self._net is not net:
            self._net, self._channels = net, Channels()
        outermost, self._inside = not self._inside, True
        given, rules = self._block_fields(depth)
        stated = given.pop("type", None)
        if stated is None or not isinstance(stated.value, str):
            self._error('a block needs one type, the name of its template: type: "..."', at)
        template = self._find(stated.value, stated.at)
        name = given["name"].value if "name" in given else ""
        words = f"block {describe(name)} ({template.name})" if name else f"block ({template.name})"
        made = len(net.layer)
        values = self._checked(template, given, at)
        self._make(net, template, values, Inside(template.source, self._source.where(at), words), depth)
        self._add_rules(net.layer[made:], rules, at)
        if "top" in given:
            tops = {top for layer in net.layer[made:] for top in layer.top}
            for top in given["top"].values:
                if top not in tops:
                    self._error(f'template "{template.name}" makes no top {describe(top)}', given["top"].at)
        self._inside = not outermost

    def _block_fields(self, depth: int) -> tuple[dict[str, _Given], dict[str, list[Message]]]:
        """Read what stands in a block: values by name, and rules for its layers."""
        given: dict[str, _Given] = {}
        rules: dict[str, list[Message]] = {which: [] for which in _RULES}
        close = self._open_bracket("a block")
        while not self._at_end():
            at, name = self._at, self._token
            if self._kind != "word":
                self._expected("the name of a parameter")
            self._advance()
            if name in rules:
                self._take(":")
                rules[name].append(self._message(message_type("NetStateRule"), at, depth))
            else:
                value = self._named_value(name, depth)
                if value is not None:  # none is as good as nothing
                    given.setdefault(name, _Given(at)).add(value)
            self._separator()
        self._close_bracket(close)
        return given, rules

    def _find(self, name: str, at: int) -> Template:
        template = self._library.get(name) or builtin().get(name)
        if template is None:
            hint = did_you_mean(name, [*self._library, *builtin()])
            self._error(f"there is no template {describe(name)} before this block{hint}", at)
        return template

    def _make(
        self, net: Message, template: Template, values: dict[str, Any], inside: Inside, depth: int
    ) -> None:
        """Give the parameters their values, and read the body of the template into the net."""
        back, library, scope = self._here(), self._library, self._scope
        self._library, self._scope = template.library, ChainMap()
        for name, parameter in template.parameters.items():
            if name in values:
                self._scope[name] = values[name]
            elif parameter.default is not None:
                self._go_to(template.text, inside, parameter.default)
                self._scope[name] = self._value(depth)
            elif name == "top" and isinstance(self._scope.get("name"), str):
                self._scope[name] = accepted(parameter, self._scope["name"])
        self._go_to(template.text, inside, template.body)
        self._body(net, depth)
        self._spend(self._at - template.at + STEP)
        self._library, self._scope = library, scope
        self._go_to(*back)

    def _checked(self, template: Template, given: Mapping[str, _Given], at: int) -> dict[str, Any]:
        """Return the values that a block gives, with a bottom from the layer before, in what kinds they should be."""
        values = {}
        for name, stated in given.items():
            parameter = template.parameters.get(name)
            if parameter is None:
                hint = did_you_mean(name, template.parameters)
                known = f"it has {', '.join(template.parameters)}"
                self._error(
                    f'template "{template.name}" has no parameter "{name}"{hint or f" ({known})"}', stated.at
                )
            try:
                values[name] = accepted(parameter, stated.value)
            except ValueError as e:
                self._error(f'template "{template.name}": {e}', stated.at)
        bottom, previous = template.parameters["bottom"], self._previous()
        if "bottom" not in values and bottom.default is None and previous is not None:
            values["bottom"] = accepted(bottom, previous)
        missing = [
            f"{name} ({parameter.words})"
            for name, parameter in template.parameters.items()
            if parameter.default is None and name not in values and name not in _IMPLIED
        ]
        if missing:
            self._error(f'template "{template.name}" needs {", ".join(missing)}', at)
        return values

    def _add_rules(self, layers: list[Message], rules: Mapping[str, list[Message]], at: int) -> None:
        """Add the include and exclude rules of a block to its layers."""
        for layer in layers if any(rules.values()) else ():
            if layer.include or layer.exclude:
                self._error(f'layer "{layer.name}" of this block has include or exclude rules of its own', at)
            for which in _RULES:
                getattr(layer, which).extend(rule.copy() for rule in rules[which])

    # -- what expressions may ask for

    def _variable(self, name: str) -> Any:
        if name in self._scope:
            return self._scope[name]
        if name == "previous":
            found = self._previous()
            if found is None:
                raise ValueError("no layer stands before this, or it has no top")
            return found
        if name in _IMPLIED:
            no_layer = ", and no layer before it has a top" if name == "bottom" else ""
            raise ValueError(f"the block does not state its {name}{no_layer}")
        return super()._variable(name)

    def _previous(self) -> str | None:
        """Give the first top of the layer before."""
        layers = self._net.layer
        return layers[-1].top[0] if layers and layers[-1].top else None

    def _count_channels(self, blob: Any) -> int:
        if not isinstance(blob, str):
            raise ValueError(f"expected the name of a blob, found {describe(blob)}")
        return self._channels.of(self._net, blob)


@cache
def builtin() -> Mapping[str, Template]:
    """Return the templates that come with caffebn, by name."""
    templates: dict[str, Template] = {}
    for path in sorted(Path(__file__).parent.glob("*.prototxt")):
        reader = NetReader(text.load(path), f"caffebn/blocks/{path.name}", strict=True)
        reader.message(message_type("NetParameter"))
        templates.update(reader.templates)
    return templates
