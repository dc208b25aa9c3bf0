"""Templates made to do harm: each ends in an error, in bounded time and memory."""

from __future__ import annotations

import re
import time
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffebn import blocks
from caffebn.blocks.body_reader import MAX_EXPANSION
from caffebn.errors import CaffebnError, CaffebnWarning

USE = ' block { type: "T" }'
TOO_LARGE = (
    "the blocks of this net are too large: a repeat counts too far, or templates use each other too often"
)
TOO_DEEP = "blocks, repeat and when are nested more than 64 deep; does a template use itself without end?"

HOSTILE = {
    "uses itself": ('template { name: "T" block { type: "T" } }', TOO_DEEP),
    "uses itself twice": ('template { name: "T" block { type: "T" } block { type: "T" } }', TOO_DEEP),
    "use each other": (
        'template { name: "T" block { type: "U" } } template { name: "U" block { type: "T" } }', TOO_DEEP,
    ),
    "doubles": (
        'template { name: "T" param { n: 25 } when { test: ${n > 0} block { type: "T" n: ${n - 1} } '
        'block { type: "T" n: ${n - 1} } } }', TOO_LARGE,
    ),
    "repeats nothing": ('template { name: "T" repeat { count: 1000000000000 } }', TOO_LARGE),
    "repeats repeats": (
        'template { name: "T" repeat { count: 99999 repeat { count: 99999 repeat { count: 99999 } } } }', TOO_LARGE,
    ),
    "doubles a string": ('template { name: "T" let { a: "0123456789" ' + 'a: "${a}${a}" ' * 60 + "} }", TOO_LARGE),
    "skips much": (
        'template { name: "T" repeat { count: 99999999 when { test: false ' + 'layer { name: "x" }' * 9999 + "} } }",
        TOO_LARGE,
    ),
    "repeats a comment": ('template { name: "T" repeat { count: 99999999 #' + "x" * 99999 + "\n} }", TOO_LARGE),
    "doubles a message": (
        'template { name: "T" param { n: 20 m {} } layer { a: ${m} } when { test: ${n > 0} '
        'block { type: "T" n: ${n - 1} m { x: ${m} y: ${m} } } } }', TOO_LARGE,
    ),
    "nests when": ('template { name: "T" ' + "when { test: true " * 999 + "}" * 999 + "}", TOO_DEEP),
    "nests messages": (
        'template { name: "T" layer { a {' + "a {" * 99 + "}" * 101 + "}", "messages are nested more than 64 deep",
    ),
    "makes many values": (
        'template { name: "T" param { xs: [' + "1, " * 9999 + "1] } "
        "repeat { count: 9999 layer { loss_weight: ${xs} } } }", "more than 1000000 values in one text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates(name, refusal):
    text, words = HOSTILE[name]
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        said = refusal(text + USE)
    assert words in said
    assert time.process_time() - begin < 10


def test_the_largest_published_nets_are_far_below_the_limit(expand):
    text = 'block { type: "ResidualBottleneck" name: "res2" width: 64 repeat: 300 bottom: "data" }'
    assert len(expand(text)) == 300 * 13 + 3
    assert MAX_EXPANSION > 2**23


SEEDS = [
    """template { name: "T" param { n: int xs: [1, 2] s: "a${n}" m { eps: 1 } z: none } let { k: ${n * 2} }
    repeat { count: ${k} index: "j" when { test: ${j % 2 == 0} layer { name: "x${j}" top: ["a", ${s}] bottom: ${xs}
    batch_norm_param: ${m} } } else { error: "odd ${j}" } } } block { type: "T" n: 0 } block { type: "T" n: 1 top: "a" }
    template { name: "R" param { n: int } when { test: ${n > 0} block { type: "R" n: ${n - 1} } }
    else { layer { name: "end" top: ${top} } } } block { type: "R" name: "r" n: 5 }""",
    """layer { name: "d" type: "Input" top: "d" input_param { shape { dim: [1, 3, 32, 32] } } }
    block { type: "ResidualBottleneck" name: "res2" width: 8 repeat: 2 batch_norm_param { eps: 1e-3 } }
    block { type: "DenseBlock" name: "conv2" repeat: 2 dropout_ratio: 0.2 }
    block { type: "DenseTransition" name: "conv2" }
    block { type: "InvertedResidual" name: "conv3_1" num_output: 8 include { phase: TEST } }""",
]
TOKENS = [re.findall(r'"[^"\n]*"|\$\{[^{}]*\}|[A-Za-z_]\w*|[0-9.]+|\s+|.', seed, re.S) for seed in SEEDS]
OTHERS = [
    "${", "}", "{", "[", "]", "none", "${1/0}", "${a.b}", "${'x'}", '"${"', '"$${a}"', "-", "else", "let", "when",
    "${previous}", "${channels('d')}", "${letter(-1)}", "${xs[5]}", "<", ">", "param", "inf", "9" * 30, "0x1F", "\0",
]  # fmt: skip


@st.composite
def damaged(draw):
    """A good text with a few tokens changed, left out or moved."""
    tokens = list(draw(st.sampled_from(TOKENS)))
    for _ in range(draw(st.integers(1, 4))):
        at, how = (
            draw(st.integers(0, len(tokens) - 1)),
            draw(st.sampled_from("delete replace insert swap".split())),
        )
        new = draw(st.one_of(st.sampled_from(OTHERS), st.sampled_from(tokens)))
        if how == "delete":
            tokens[at] = ""
        elif how == "swap":
            other = draw(st.integers(0, len(tokens) - 1))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            tokens[at] = new if how == "replace" else tokens[at] + new
    return "".join(tokens)


@given(damaged())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_texts(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        try:
            blocks.parse(text)
        except CaffebnError as e:
            assert len(str(e)) < 1500
