"""What is said when a block cannot be made, and where."""

from __future__ import annotations

import pickle

import pytest

from caffebn import Net, blocks
from caffebn.errors import CaffebnWarning, NetError, ParseError

T = """\
template { name: "T" param { n: int s: "x" b: true m {} xs: [1] } layer { name: "${name}" top: ${top} } }
"""

# a text behind the template T, where the error is (in lines from there on), and its words
IN_BLOCKS = [
    ('block { type: "T" }', "1:1", 'template "T" needs n (an integer)'),
    ('block { type: "T" n: 1 wdth: 2 }', "1:24", 'template "T" has no parameter "wdth" (it has name, bottom, n, s, b'),
    ('block { type: "T" n: 1 tops: "a" }', "1:24", 'template "T" has no parameter "tops"; did you mean "top"?'),
    ('block { type: "T" n: 1.5 }', "1:19", 'template "T": n takes an integer, found 1.5'),
    ('block { type: "T" n: true }', "1:19", "n takes an integer, found true"),
    ('block { type: "T" n: "1" }', "1:19", 'n takes an integer, found "1"'),
    ('block { type: "T" n: {} }', "1:19", "n takes an integer, found a message"),
    ('block { type: "T" n: 1 n: 2 }', "1:19", "n takes an integer, found a list of 2"),
    ('block { type: "T" n: [1] }', "1:19", "n takes an integer, found a list of 1"),
    ('block { type: "T" n: 1 s: 2 }', "1:24", "s takes a string, found 2"),
    ('block { type: "T" n: 1 b: 1 }', "1:24", "b takes true or false, found 1"),
    ('block { type: "T" n: 1 m: 1 }', "1:24", "m takes a message in { }, found 1"),
    ('block { type: "T" n: 1 xs: 0.5 }', "1:24", "xs takes a list, each element an integer, found 0.5"),
    ('block { type: "T" n: 1 bottom: "a" bottom: "b" }', "1:24", "bottom takes a string, found a list of 2"),
    ('block { type: "T" n: 1 name: 3 }', "1:24", "name takes a string, found 3"),
    ('block { type: "T" n: 1 top: "a" }', "1:1: in block (T) at net.prototxt:1:84",
     "the block does not state its name"),
    ('block { type: "ResidualBasc" n: 1 }', "1:9",
     'there is no template "ResidualBasc" before this block; did you mean "ResidualBasic"?'),
    ('block { type: "Later" } template { name: "Later" }', "1:9", 'there is no template "Later" before this block'),
    ("block { n: 1 }", "1:1", "a block needs one type, the name of its template"),
    ('block { type: "T" type: "T" }', "1:1", "a block needs one type"),
    ("block { type: 3 }", "1:1", "a block needs one type"),
    ('block: "T"', "1:8", 'expected "{" to begin a block, found "T"'),
    ('block { "T" }', "1:9", 'expected the name of a parameter, found "T"'),
    ('block { type "T" }', "1:14", 'expected ":" after type, found "T"'),
    ('block { type: "T" ', "1:19", 'expected a name or "}", found the end of the text'),
    ('block { type: "T" >', "1:19", 'expected a name or "}", found ">"'),
    ('block { type: "T" n: }', "1:22", 'expected a value, found "}"'),
    ('block { type: "T" n: [1 2] }', "1:25", 'expected "," or "]", found "2"'),
    ('block { type: "T" n: [[1]] }', "1:23", 'expected a value, found "["'),
    ('block { type: "T" n: [none] }', "1:23", "an element of a list cannot be none"),
    ('block { type: "T" m { n: 1 }', "1:29", 'expected a name or "}", found the end'),
    ('block { type: "T" m { ( }', "1:23", 'expected the bracket that closes that of line 2, found "("'),
    ('block { type: "T" m { > }', "1:23", 'expected the bracket that closes that of line 2, found ">"'),
    ('block { type: "T" n: ${1 +} }', "1:27", "${1 +}: expected a value, found the end"),
    ('block { type: "T" n: 1 name: "a${1 +} }"}', "1:37", "${1 +}: expected a value, found the end"),
    ('block { type: "T" n: 1 name: "a${" }', "1:32", "${ is not closed in this string; $${ stands for ${ itself"),
    ('block { type: "T" n: 1 name: "${none}" }', "1:31",
     "${none} in a string: expected a number, a string, true or false, found none"),
    ('block { type: "T" n: 1 name: "\\${n}" }', "1:30", 'the string has the unknown escape "\\$"'),
    ('block { type: "T" n: 1 name: "${n}" }', "1:33", '${n}: nothing here is called "n"'),
    ('block { type: "T" n: 1 name: ${previous} }', "1:32",
     "${previous}: no layer stands before this, or it has no top"),
    ('block { type: "T" n: 1 name: "a" include { phas: TEST } }', "1:44", "NetStateRule has no field"),
    ('block { type: "T" n: 1 name: "a" top: ${"b" + "c"} top: "b" }', "1:34", "top takes a string, found a list of 2"),
    ("layer { name: ${1} }", "1:15", "${1}: expressions stand in templates and blocks only"),
    ("layer { top: [${1}] }", "1:15", "${1}: expressions stand in templates and blocks only"),
    ("repeat { count: 3 }", "1:1", "repeat stands in a template, not at the top level of a file"),
    ("let { a: 3 }", "1:1", "let stands in a template, not at the top level of a file"),
    ("include { phase: TEST }", "1:9", 'expected ":" after include, found "{"'),
    ("include: 3", "1:10", 'expected the name of a file in quotes, found "3"'),
    ('include: "none.prototxt"', "1:10",
     'cannot include "none.prototxt": there is no such file, looked for none.prototxt'),
    ('include: "a\\000b"', "1:10", "there is no such file"),
    ('template { name: "T" }', "1:18", 'template "T" is defined already, at net.prototxt:1:1'),
    ('template { param {} name: "U" }', "1:12", 'expected name: "..." at the beginning of a template, found "param"'),
    ("template { name: U }", "1:18", 'expected the name of the template in quotes, found "U"'),
    ('template { name: "a b" }', "1:18", 'the name of a template is one word of letters and digits, found "a b"'),
    ('template { name: "U"', "1:21", "expected the bracket that closes that of line 2, found the end of the text"),
    ('template { name: "U" layer { > }', "1:30", 'expected the bracket that closes that of line 2, found ">"'),
    ('template { name: "U" "x', "1:22", "found a string that is not closed on its line"),
    ('template { name: "U" param { a: int a: 1 } }', "1:37", 'parameter "a" is declared twice'),
    ('template { name: "U" param { type: int } }', "1:30", 'a parameter cannot be called "type", which has a meaning'),
    ('template { name: "U" param { int: 3 } }', "1:30", 'a parameter cannot be called "int"'),
    ('template { name: "U" param { if: 3 } }', "1:30", 'a parameter cannot be called "if"'),
    ('template { name: "U" param { a 3 } }', "1:32", 'expected ":" after a, found "3"'),
    ('template { name: "U" param { a: ] } }', "1:33", 'expected a value, found "]"'),
    ('template { name: "U" param { a: [1 2] } }', "1:36", 'expected "," or "]", found "2"'),
    ('template { name: "U" param { "a" } }', "1:30", 'expected the name of a parameter, found "a"'),
    ('template { name: "U" param { a: 1 ', "1:35", 'expected a name or "}", found the end of the text'),
    ('template { name: "U" param { top: int } }', "1:30", 'parameter "top" is a string, or a list of strings'),
    (f'template {{ name: "U" param {{ {"a" * 65}: int }} }}', "1:30",
     "the name of a parameter may have 64 characters, this one has 65"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "place", "words"), IN_BLOCKS, ids=range(len(IN_BLOCKS)))
def test_errors_of_blocks(refusal, source, place, words):
    line, rest = place.split(":", 1)
    said = refusal(T + source, strict=True)
    assert said.startswith(f"net.prototxt:{int(line) + 1}:{rest}: ")
    assert words in said


# the body of a template, where in it the error is (with net.prototxt:2:1 the block before it), and its words
IN_BODIES = [
    ("layer { nme: 3 }", "1:9", 'LayerParameter has no field "nme"; did you mean "name"?'),
    ("name: 'x'", "1:1",
     'expected layer, block, let, when, repeat, error or a closing bracket in a template, found "name"'),
    ("input: 'x'", "1:1", 'or a closing bracket in a template, found "input"'),
    ('template { name: "U" }', "1:1",
     'expected layer, block, let, when, repeat, error or a closing bracket in a template'),
    ("when { test: true include: 'x' }", "1:19", 'in a template, found "include"'),
    ("layer { name: 'a' name: 'b' }", "1:19",
     "LayerParameter.name is not repeated, but specified more than once (first on line 2)"),
    ("layer { name: ${3} }", "1:15", "LayerParameter.name: expected a str, found 3 (int)"),
    ("layer { convolution_param { num_output: ${8 / 2} } }", "1:41",
     "ConvolutionParameter.num_output: expected an integer from 0 to 4294967295, found 4.0 (float)"),
    ("layer { convolution_param { num_output: ${-1} } }", "1:41", "expected an integer from 0 to 4294967295, found -1"),
    ("layer { name: 'a' pooling_param { pool: ${'MAXX'} } }", "1:41",
     "PoolingParameter.pool: expected one of MAX, AVE, STOCHASTIC, found 'MAXX' (str); "
     'did you mean "MAX"? (in layer "a")'),
    ("layer { phase: ${true} }", "1:16", "LayerParameter.phase: expected one of TRAIN, TEST, found True (bool)"),
    ("layer { pooling_param: ${3} }", "1:24", "LayerParameter.pooling_param: expected a message, found 3"),
    ("layer { name: ${xs} }", "1:15", "LayerParameter.name takes one value, found a list of 2"),
    ("layer { top: [${xs}] }", "1:15", "LayerParameter.top: expected a str, found [1, 2] (list)"),
    ("layer { blobs { data: ${'a'} } }", "1:23", "BlobProto.data: expected a one-dimensional array of numbers"),
    ("layer { name: 'x' name: ${none} name: ${'y'} }", "1:33", "LayerParameter.name is not repeated"),
    ("let { a 3 }", "1:9", 'expected ":" after a, found "3"'),
    ("let { previous: 3 }", "1:7", 'a variable cannot be called "previous", which has a meaning of its own'),
    ("let { : 3 }", "1:7", 'expected the name of a variable, found ":"'),
    ("let: 3", "1:6", 'expected "{" to begin a let, found "3"'),
    ("when { layer {} }", "1:8", 'expected test: ... at the beginning of a when, found "layer"'),
    ("when { test: 1 }", "1:8", "test takes true or false, found 1"),
    ("else { }", "1:1", "else stands right behind the when that it belongs to"),
    ("when { test: true } else: 3", "1:25", 'expected "{" to begin an else, found ":"'),
    ("repeat { index: 'i' }", "1:10", 'expected count: ... at the beginning of a repeat, found "index"'),
    ("repeat { count: -1 }", "1:10", "count takes an integer from 0, found -1"),
    ("repeat { count: 1.5 }", "1:10", "count takes an integer from 0, found 1.5"),
    ("repeat { count: true }", "1:10", "count takes an integer from 0, found true"),
    ("repeat { count: 1 index: 'if' }", "1:19", 'index takes the name of a variable, found "if"'),
    ("repeat { count: 1 index: 3 }", "1:19", "index takes the name of a variable, found 3"),
    ("error: 'width is ${xs[1]}, which is too odd'", "1:1", "width is 2, which is too odd"),
    ("error: 3", "1:1", "error takes a string, found 3"),
    ("error 'x'", "1:7", 'expected ":" after error'),
    ("block { type: 'T' include: 'x' }", "1:28", 'expected "{" to begin a NetStateRule'),
    ("layer { fork: ${none} }", "1:15", "expected a value, found none"),
    ("layer { fork: [${xs}] }", "1:16", "expected a value, found a list of 2"),
    ("let { a: ${nme} }", "1:12", '${nme}: nothing here is called "nme"'),
    ("let { a: ${i} } repeat { count: 3 }", "1:12", '${i}: nothing here is called "i"'),
    ("let { a: ${channels(3)} }", "1:12", "${channels(3)}: channels: expected the name of a blob, found 3"),
    ("let { a: ${channels('dat')} }", "1:12", 'channels: no layer before this block makes "dat"'),
]  # fmt: skip


@pytest.mark.parametrize(("body", "place", "words"), IN_BODIES, ids=range(len(IN_BODIES)))
def test_errors_of_bodies_name_the_block_and_the_line_of_the_template(body, place, words):
    text = 'template { name: "U" param { xs: [1, 2] }\n' + body + ' }\nblock { type: "U" name: "u" }'
    line, column = place.split(":")
    with pytest.raises(ParseError) as error:
        blocks.parse(text, "net.prototxt", strict="fork" not in body)
    said = str(error.value)
    assert said.startswith(f'net.prototxt:3:1: in block "u" (U) at net.prototxt:{int(line) + 1}:{column}: ')
    assert words in said
    assert (error.value.where.line, error.value.where.column) == (3, 1)


NESTED = """\
template { name: "Inner"
  layer { name: ${name} type: "Convolutoin" bottom: ${bottom} top: ${top} } }
template { name: "Outer"
  repeat { count: 2 block { type: "Inner" name: "${name}_${i}" } } }
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 } } }

  block { type: "Outer" name: "big" }
"""
WAY = 'net.prototxt:7:3: in block "big" (Outer) at net.prototxt:4:21: in block "big_0" (Inner) at net.prototxt:2:'


def test_layers_know_the_way_to_their_line():
    net = blocks.parse(NESTED, "net.prototxt")
    assert str(net.layer[1].where) == WAY + "3"
    assert str(net.layer[1].where_of("type")) == WAY + "25"
    where = pickle.loads(pickle.dumps(net.layer[1].where))
    assert (where, str(where)) == (("net.prototxt", 7, 3), WAY + "3")


def test_errors_of_a_net_name_the_block(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NESTED)
    with pytest.raises(NetError) as error:
        Net(path, "TEST")
    way = WAY.replace("net.prototxt", str(path))
    assert f'{way}25: layer "big_0": unknown layer type "Convolutoin"; did you mean' in str(error.value)


def test_errors_of_a_layer_name_the_block():
    text = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 4, 4] } } }\n'
    text += 'block { type: "ConvBnRelu" name: "a" num_output: 4 kernel_size: 7 pad: 0 }'
    with pytest.raises(NetError) as error:
        Net.from_text(text, "TEST")
    assert str(error.value).startswith(
        '<text>:2:1: in block "a" (ConvBnRelu) at caffebn/blocks/conv.prototxt:'
    )
    assert ': in block "a" (Conv) at caffebn/blocks/conv.prototxt:' in str(error.value)
    assert 'layer "a" (Convolution): ' in str(error.value)


def test_warnings_of_a_net_name_the_block():
    text = 'template { name: "T" layer { name: "a" type: "Input" top: ${name} input_param { shape {} } } }\n'
    text += 'block { type: "T" name: "x" } block { type: "T" name: "y" }'
    with pytest.warns(
        CaffebnWarning, match=r'<text>:2:31: in block "y" \(T\) at <text>:1:22: layer name "a" is used'
    ):
        Net.from_text(text, "TEST")


def test_errors_of_values_are_where_the_values_stand(refusal):
    said = refusal(
        'block { type: "Conv" name: "c" bottom: "x" num_output: 3\n weight_filler { typ: "x" } }', strict=True
    )
    assert said.startswith('net.prototxt:2:18: FillerParameter has no field "typ"; did you mean "type"?')


def test_errors_of_defaults_name_the_block(refusal):
    said = refusal('template { name: "T" param { a: ${1 / 0} } }\nblock { type: "T" }')
    assert said == "net.prototxt:2:1: in block (T) at net.prototxt:1:37: ${1 / 0}: 1 / 0: division by zero"


def test_a_top_that_nobody_makes(refusal):
    said = refusal('template { name: "T" layer { top: "a" } }\nblock { type: "T" name: "b" top: "x" }')
    assert said == 'net.prototxt:2:29: template "T" makes no top "x"'


def test_rules_twice(refusal):
    said = refusal(
        'template { name: "T" layer { name: "a" include { phase: TRAIN } } }\n'
        'block { type: "T" exclude { stage: "x" } }'
    )
    assert said == 'net.prototxt:2:1: layer "a" of this block has include or exclude rules of its own'
