"""Random messages of the schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from caffebn.proto import Message, schema
from caffebn.proto.kinds import RANGES

_SCALARS = {
    **{kind: st.integers(low, high) for kind, (low, high) in RANGES.items()},
    "bool": st.booleans(),
    "float": st.floats(width=32),
    "double": st.floats(),
    "string": st.text(max_size=8),
    "bytes": st.binary(max_size=8),
}


@st.composite
def _messages(draw: st.DrawFn, type: str = "NetParameter") -> Message:
    message = Message(type)
    fields = list(message.schema.fields.values())
    chosen = draw(st.lists(st.sampled_from(fields), max_size=5, unique=True)) if fields else []
    for field in (*message.schema.required, *chosen):
        setattr(message, field.name, draw(_values(field)))
    return message


def _values(field: schema.Field) -> st.SearchStrategy[Any]:
    if field.kind == "message":
        one: st.SearchStrategy[Any] = _messages(field.type.name)
    elif field.kind == "enum":
        one = st.sampled_from(list(field.type.by_name))
    else:
        one = _SCALARS[field.kind]
    if not field.repeated:
        return one
    return st.lists(one, min_size=1, max_size=2 if field.kind == "message" else 5)


@pytest.fixture(scope="session")
def messages() -> Any:
    """The strategy ``messages(type)``: random messages of a type, with random fields present."""
    return _messages


@pytest.fixture(params=sorted(schema.messages))
def every_type(request: pytest.FixtureRequest) -> str:
    """The name of each message type in turn."""
    return request.param
