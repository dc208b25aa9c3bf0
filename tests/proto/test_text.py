from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffebn.errors import CaffebnWarning, FileError, ParseError, Where
from caffebn.proto import Identifier, Message, UnknownBinary, UnknownText, schema, text, text_reader


def parse_quietly(source, type="NetParameter", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        return text.parse(source, type, **options)


# -- what is accepted


def test_a_net():
    net = text.parse(
        """
        # a comment
        name: "tiny"  # another
        layer {
          name: 'bn' type: "BatchNorm"
          bottom: "x", top: "y";
          param { lr_mult: 0 } param: { lr_mult: 0 } param < lr_mult: 0 >
          batch_norm_param { eps: 1e-3 use_global_stats: true }
          phase: TEST
        }
        """
    )
    assert net.name == "tiny"
    layer = net.layer[0]
    assert (layer.name, layer.type, layer.bottom, layer.top) == ("bn", "BatchNorm", ["x"], ["y"])
    assert [param.lr_mult for param in layer.param] == [0, 0, 0]
    assert layer.batch_norm_param == Message("BatchNormParameter", eps=1e-3, use_global_stats=True)
    assert layer.phase == "TEST"


@pytest.mark.parametrize(("source", "value"), [
    ("1", 1), ("-1", -1), ("- 1", -1), ("0x1F", 31), ("-0XfF", -255), ("017", 15), ("0", 0),
    ("2147483647", 2**31 - 1), ("-2147483648", -(2**31)), ("-\n# comment\n 5", -5),
])  # fmt: skip
def test_integers(source, value):
    assert text.parse(f"display: {source}", "SolverParameter").display == value


@pytest.mark.parametrize(("source", "value"), [
    ("1", 1), ("-1.5", -1.5), ("- .5", -0.5), ("1.", 1), ("1.f", 1), ("2F", 2), (".5f", 0.5), ("1e3", 1000),
    ("1E-2", 0.01), ("1.5e+2f", 150), ("inf", math.inf), ("-inf", -math.inf), ("Infinity", math.inf),
    ("-INF", -math.inf), ("1e40", math.inf), ("0.1", 0.1), ("007.5", 7.5),
])  # fmt: skip
def test_floats(source, value):
    assert text.parse(f"base_lr: {source}", "SolverParameter").base_lr == np.float32(value)


@pytest.mark.parametrize("source", ["nan", "-nan", "NaN"])
def test_nan(source):
    assert math.isnan(text.parse(f"base_lr: {source}", "SolverParameter").base_lr)


@pytest.mark.parametrize(("source", "value"), [
    ("true", True), ("True", True), ("t", True), ("1", True),
    ("false", False), ("False", False), ("f", False), ("0", False),
])  # fmt: skip
def test_bools(source, value):
    assert text.parse(f"force_backward: {source}").force_backward is value


@pytest.mark.parametrize(("source", "value"), [("MAX", "MAX"), ("1", "AVE"), ("0x2", "STOCHASTIC")])
def test_enums(source, value):
    assert text.parse(f"pool: {source}", "PoolingParameter").pool == value


@pytest.mark.parametrize(("source", "value"), [
    ('"a"', "a"),
    ("'a'", "a"),
    ("\"it's\"", "it's"),
    ("'say \"x\"'", 'say "x"'),
    ('"a" "b"\n\'c\' # d\n "e"', "abce"),
    (r'"\n\t\r\a\b\f\v\\\'\"\?"', "\n\t\r\a\b\f\v\\'\"?"),
    (r'"\101\1012\7"', "AA2\x07"),
    (r'"\x41\x7Z"', "A\x07Z"),
    (r'"\303\251\xc3\xa9"', "éé"),
    (r'"\u00e9\U0001F600"', "é😀"),
    ('"é😀\u2028"', "é😀\u2028"),
    ('"# no comment"', "# no comment"),
    ('""', ""),
])  # fmt: skip
def test_strings(source, value):
    assert text.parse(f"name: {source}").name == value


def test_bytes_keep_every_byte():
    assert text.parse(r'data: "\377\000é"', "Datum").data == b"\xff\x00\xc3\xa9"


def test_strings_that_are_not_utf8_are_kept():
    net = text.parse(r'name: "\377"')
    assert net.name.encode("utf-8", "surrogateescape") == b"\xff"
    assert text.dump(net) == 'name: "\\377"\n'


@pytest.mark.parametrize("source", [
    "pad: 1 pad: 2 pad: 3", "pad: [1, 2, 3]", "pad: [1,2] pad: 3", "pad: [] pad: [1, 2, 3]",
])  # fmt: skip
def test_repeated_scalars(source):
    assert text.parse(source, "ConvolutionParameter").pad == [1, 2, 3]


@pytest.mark.parametrize("source", [
    "param { lr_mult: 1 } param { lr_mult: 2 }",
    "param [{ lr_mult: 1 }, { lr_mult: 2 }]",
    "param: [< lr_mult: 1 >, { lr_mult: 2; }]",
    "param: [] param { lr_mult: 1 } param [{ lr_mult: 2 }]",
])  # fmt: skip
def test_repeated_messages(source):
    layer = text.parse(source, "LayerParameter")
    assert [param.lr_mult for param in layer.param] == [1, 2]


def test_arrays():
    blob = text.parse("data: [1, -2.5] data: 3 double_data: 0.1 shape { dim: [3] }", "BlobProto")
    assert blob.data.dtype == np.float32
    assert list(blob.data) == [1, -2.5, 3]
    assert blob.double_data.dtype == np.float64
    assert list(blob.double_data) == [0.1]


@pytest.mark.parametrize("source", ["", "\n", "# only a comment", "\ufeff", "  \t\r\n"])
def test_empty_texts(source):
    assert text.parse(source) == Message("NetParameter")


def test_bom_and_windows_line_ends():
    net = text.parse('\ufeffname: "a"\r\nlayer {\r\n  name: "b"\r\n}\r\n')
    assert net.layer[0].name == "b"
    assert net.layer[0].where_of("name") == ("<text>", 3, 3)


# -- places


def test_every_value_knows_its_place():
    net = text.parse(
        'name: "n"\nlayer {\n  top: "a"\n  top: "b"\n  loss_weight: [1,\n 2]\n  lrn_param { k: 1 }\n}\n',
        filename="net.prototxt",
    )
    layer = net.layer[0]
    assert net.where == Where("net.prototxt", 1, 1)
    assert net.where_of("name") == ("net.prototxt", 1, 1)
    assert str(layer.where) == "net.prototxt:2:1"
    assert net.where_of("layer") == net.where_of("layer", 0) == layer.where
    assert layer.where_of("top", 1) == ("net.prototxt", 4, 3)
    assert layer.where_of("loss_weight", 1) == ("net.prototxt", 6, 2)
    assert layer.lrn_param.where == layer.where_of("lrn_param") == ("net.prototxt", 7, 3)
    assert layer.lrn_param.where_of("k") == ("net.prototxt", 7, 15)
    assert layer.where_of("bottom") is None
    assert layer.where_of("top", 7) is None
    assert layer.batch_norm_param.where is None


def test_a_value_assigned_later_keeps_the_place_of_its_field():
    layer = text.parse('name: "a"', "LayerParameter")
    layer.name = "b"
    assert layer.where_of("name") == ("<text>", 1, 1)
    layer.clear("name")
    assert layer.where_of("name") is None


# -- errors

ERRORS = [
    ("layer {", "1:8", 'expected a field or the "}" that closes the LayerParameter of line 1, found the'),
    ("layer {\n>", "2:1", 'expected a field or "}", found ">"'),
    ("}", "1:1", 'expected a field, found "}"'),
    ("layer { name: }", "1:15", 'expected a string in quotes for LayerParameter.name, found "}"'),
    ("name: bare", "1:7", 'expected a string in quotes for NetParameter.name, found "bare"'),
    ('name: "open\n', "1:7", "found a string that is not closed on its line"),
    ('name "x"', "1:6", 'expected ":" after name, found "x"'),
    ('name: "a" name: "b"', "1:11",
     "NetParameter.name is not repeated, but specified more than once (first on line 1)"),
    ("state {} state {}", "1:10", "NetParameter.state is not repeated, but specified more than once"),
    ("state: 3", "1:8", 'expected "{" to begin a NetState, found "3"'),
    ("input_dim: 1.0", "1:12", 'expected an integer for NetParameter.input_dim, found "1.0"'),
    ("input_dim: 08", "1:12", 'expected an integer for NetParameter.input_dim, found "08"'),
    ("input_dim: x", "1:12", 'expected an integer for NetParameter.input_dim, found "x"'),
    ("input_dim: 2147483648", "1:12",
     'NetParameter.input_dim: expected an integer from -2147483648 to 2147483647, found "2147483648"'),
    ("input_dim: -2147483649", "1:12", 'to 2147483647, found "-2147483649"'),
    ("input_dim: " + "9" * 10000, "1:12", "expected an integer"),
    ("input_dim: 12abc", "1:12", 'expected an integer for NetParameter.input_dim, found "12abc"'),
    ("input_dim: [1 2]", "1:15", 'expected "," or "]", found "2"'),
    ("input_dim: [1,]", "1:15", 'expected an integer for NetParameter.input_dim, found "]"'),
    ("force_backward: 2", "1:17", 'expected true or false for NetParameter.force_backward, found "2"'),
    ("force_backward: yes", "1:17", 'expected true or false for NetParameter.force_backward, found "yes"'),
    ("force_backward: [true]", "1:17", 'expected true or false for NetParameter.force_backward, found "["'),
    ("layer: { phase: TRIAN }", "1:17",
     'LayerParameter.phase: expected one of TRAIN, TEST, found "TRIAN"; did you mean "TRAIN"?'),
    ("layer: { phase: 5 }", "1:17", 'LayerParameter.phase: expected one of TRAIN, TEST, found "5"'),
    ('layer: { phase: "TEST" }', "1:17", "expected a value of LayerParameter.phase"),
    ("layer { loss_weight: 0x10 }", "1:22", "expected a decimal number for LayerParameter.loss_weight"),
    ("layer { loss_weight: 010 }", "1:22", "expected a decimal number for LayerParameter.loss_weight"),
    ("layer { loss_weight: ten }", "1:22", 'expected a decimal number for LayerParameter.loss_weight, found'),
    ('layer { name: "c" clip_param { min: 1 } }', "1:19", 'needs the field max (in layer "c")'),
    (r'name: "\q"', "1:7", r'the string has the unknown escape "\q"'),
    (r'name: "\400"', "1:7", r'the string has the unknown escape "\400"'),
    (r'name: "\ud800"', "1:7", r'the string has the unknown escape "\ud800"'),
    ("// layer", "1:1", 'expected the name of a field, found "/" (a comment begins with "#")'),
    ("layer {} @", "1:10", 'expected the name of a field, found "@"'),
    ("[caffe.x]: 1", "1:1", 'expected the name of a field, found "["'),
    (": 1", "1:1", 'expected the name of a field, found ":"'),
    ("layer [{}, 3]", "1:12", 'expected "{" to begin a LayerParameter, found "3"'),
    ("layer [{} {}]", "1:11", 'expected "," or "]", found "{"'),
    ("1.5: 3", "1:1", 'expected the name of a field, found "1.5"'),
    ("999999999999: 3", "1:1", 'expected the name of a field, found "999999999999"'),
    ("99: { }", "1:5", 'expected an integer or a string for field 99, found "{"'),
    ("99: 18446744073709551616", "1:5", "expected an integer or a string for field 99"),
    ("fork: [1 2]", "1:10", 'expected "," or "]", found "2"'),
    ("fork: ]", "1:7", 'expected a value, found "]"'),
    ("fork: -x", "1:8", 'expected a value, found "x"'),
    ("fork 3", "1:6", 'expected ":" or "{" after "fork", found "3"'),
    ("fork { a: 1 > }", "1:13", 'expected a field or "}", found ">"'),
]  # fmt: skip


@pytest.mark.parametrize(("source", "place", "words"), ERRORS, ids=range(len(ERRORS)))
def test_errors_name_the_place(source, place, words):
    with pytest.raises(ParseError) as error:
        parse_quietly(source, filename="net.prototxt")
    assert str(error.value).startswith(f"net.prototxt:{place}: ")
    assert words in str(error.value)
    assert str(error.value.where) == f"net.prototxt:{place}"
    assert len(str(error.value)) < 300


def test_errors_name_the_layer():
    with pytest.raises(ParseError, match=r'found "two" \(in layer "conv1"\)$'):
        text.parse('layer { name: "conv1" convolution_param { num_output: two } }')


def test_the_message_type_must_exist():
    with pytest.raises(ValueError, match='did you mean "NetParameter"'):
        text.parse("", "NetParameters")


# -- unknown fields

FORK = """\
layer {
  name: "bn"
  bm_param {
    frozen: true
    momentum: -0.5
    inner <
      list: [1, A, "s", { x: 1 }]
    >
    count: 0x10
    none: -inf
    empty: []
  }
  batch_norm_param {
    epss: 3
  }
}
"""


def test_unknown_fields_are_kept_with_a_warning_each():
    with pytest.warns(CaffebnWarning) as caught:
        net = text.parse(FORK, filename="net.prototxt")
    assert [str(warning.message) for warning in caught] == [
        'net.prototxt:3:3: layer "bn": LayerParameter has no field "bm_param"; it is kept, but not used; '
        'did you mean "mvn_param"?',
        'net.prototxt:14:5: layer "bn": BatchNormParameter has no field "epss"; it is kept, but not used; '
        'did you mean "eps"?',
    ]
    assert caught[0].filename == __file__
    (field,) = net.layer[0].unknown
    assert (field.name, field.where) == ("bm_param", ("net.prototxt", 3, 3))
    values = {u.name: u.value for u in field.value.unknown}
    assert values["frozen"] == "true"
    assert isinstance(values["frozen"], Identifier)
    assert (values["momentum"], values["count"], values["none"], values["empty"]) == (-0.5, 16, -math.inf, [])
    assert values["inner"].unknown[0].value[:3] == [1, "A", "s"]
    assert values["inner"].unknown[0].value[3].unknown == [UnknownText("x", 1)]


def test_the_name_of_the_layer_may_come_later():
    with pytest.warns(
        CaffebnWarning, match=r'<text>:1:9: layer "late": LayerParameter has no field "zzz"; it'
    ):
        text.parse('layer { zzz: 1 name: "late" }')


def test_unknown_fields_outside_of_layers():
    with pytest.warns(CaffebnWarning, match='^<text>:1:1: NetParameter has no field "zzz"; it is kept'):
        text.parse("zzz: 1")


def test_unknown_fields_are_written_back():
    net = parse_quietly(FORK)
    printed = text.dump(net)
    assert parse_quietly(printed) == net
    assert printed == (
        'layer {\n  name: "bn"\n  batch_norm_param {\n    epss: 3\n  }\n  bm_param {\n    frozen: true\n'
        '    momentum: -0.5\n    inner {\n      list: [1, A, "s", {\n        x: 1\n      }]\n    }\n'
        "    count: 16\n    none: -inf\n    empty: []\n  }\n}\n"
    )


def test_strict_refuses_unknown_fields():
    with pytest.raises(ParseError, match='net.prototxt:3:3: LayerParameter has no field "bm_param"; did'):
        text.parse(FORK, filename="net.prototxt", strict=True)


def test_many_unknown_fields_give_bounded_many_warnings():
    with pytest.warns(CaffebnWarning) as caught:
        text.parse("a: 1 " * 150)
    assert len(caught) == 101
    assert str(caught[-1].message) == "<text>: 50 more unknown fields are kept, but not used"


def test_unknown_fields_of_binary_files_are_printed_by_number():
    net = Message("NetParameter")
    net.unknown[:] = [
        UnknownBinary(99, 0, b"\xff\x01"),
        UnknownBinary(98, 5, b"\x00\x00\x80\x3f"),
        UnknownBinary(97, 1, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
        UnknownBinary(96, 2, b"\x00\xffx\xc3\xa9"),
        UnknownBinary(1, 0, b"\x05"),
    ]
    printed = text.dump(net)
    assert printed == '99: 255\n98: 0x3f800000\n97: 0x0807060504030201\n96: "\\000\\377xé"\n1: 5\n'
    assert parse_quietly(printed) == net


# -- printing


def test_printed_text():
    net = Message("NetParameter", name='a"b\\\n\x01é', force_backward=True, input_dim=[1, 2])
    layer = net.add("layer", phase="TEST", loss_weight=[0.1, 1, 1e-5, 1e20, -math.inf, math.nan])
    layer.mutable("batch_norm_param")
    layer.add("blobs", data=[0.1, 3], double_data=[0.1])
    assert text.dump(net) == (
        'name: "a\\"b\\\\\\n\\001é"\ninput_dim: 1\ninput_dim: 2\nforce_backward: true\nlayer {\n'
        "  loss_weight: 0.1\n  loss_weight: 1\n  loss_weight: 1e-05\n  loss_weight: 1e+20\n"
        "  loss_weight: -inf\n  loss_weight: nan\n"
        "  blobs {\n    data: 0.1\n    data: 3\n    double_data: 0.1\n  }\n"
        "  phase: TEST\n  batch_norm_param {\n  }\n}\n"
    )
    assert text.parse(text.dump(net)) == net


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_printed_reads_back_equal(messages, data):
    message = data.draw(messages(data.draw(st.sampled_from(sorted(schema.messages)))))
    assert text.parse(text.dump(message), message.schema.name) == message


def nested(values):
    def build(pairs):
        message = Message(schema.UNKNOWN)
        message.unknown.extend(UnknownText(name, value) for name, value in pairs)
        return message

    return st.lists(st.tuples(st.sampled_from(["a", "b_2"]), values), max_size=3).map(build)


VALUES = st.recursive(
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5)
    | st.sampled_from([Identifier("true"), Identifier("MAX"), Identifier("inf"), -math.inf]),
    lambda inner: st.lists(inner.filter(lambda v: not isinstance(v, list)), max_size=3) | nested(inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=VALUES)
def test_unknown_values_read_back_equal(value):
    net = Message("NetParameter")
    net.unknown.append(UnknownText("fork_field", value))
    assert parse_quietly(text.dump(net)) == net


# -- bounds


def test_depth_is_bounded():
    deep = "a { " * text_reader.MAX_DEPTH + "} " * text_reader.MAX_DEPTH
    parse_quietly(deep)
    for source in (f"a {{ {deep} }}", "a { " * 100_000, "a: [{ " * 100_000):
        with pytest.raises(ParseError, match="messages are nested more than 64 deep"):
            parse_quietly(source)


def test_number_of_values_is_bounded(monkeypatch):
    monkeypatch.setattr(text_reader, "MAX_FIELDS", 100)
    for source in ("layer {}" * 101, "input_dim: 1 " * 101, "input_dim: [" + "1," * 101, "x: 1 " * 101):
        with pytest.raises(ParseError, match="more than 100 values in one text"):
            parse_quietly(source)
    assert len(text.parse("data: 1 " * 500, "BlobProto").data) == 500


def test_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MAX_BYTES", 10)
    path = tmp_path / "net.prototxt"
    path.write_text('name: "0123456789"')
    with pytest.raises(FileError, match="18 bytes are too many for a text, the limit is 10"):
        text.read(path)


def test_a_long_net_reads_quickly():
    layer = """layer {
  name: "conv"
  type: "Convolution"
  bottom: "a"
  top: "b"
  param {
    lr_mult: 1
  }
  convolution_param {
    num_output: 64
    kernel_size: 3
  }
}
"""
    source = layer * 540
    start = time.process_time()
    net = text.parse(source)
    assert time.process_time() - start < 1  # 7,000 lines; a few hundredths on an ordinary machine
    assert len(net.layer) == 540


# -- files


def test_read(tmp_path):
    path = tmp_path / "é.prototxt"
    path.write_bytes(b'\xef\xbb\xbfname: "\xc3\xa9"\r\nbad_field: 1\r\n')
    with pytest.warns(CaffebnWarning) as caught:
        assert text.read(path).name == "é"
    assert str(caught[0].message).startswith(f"{path}:2:1: ")
    assert caught[0].filename == __file__
    with pytest.raises(ParseError, match="bad_field"):
        text.read(str(path), strict=True)


def test_read_of_a_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"none.prototxt: cannot be read: No such file"):
        text.read(tmp_path / "none.prototxt")
    with pytest.raises(FileError, match="cannot be read"):
        text.read(tmp_path)


def test_read_of_a_binary_file(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\n\x01a\xa2\x06\xff")
    with pytest.raises(ParseError) as error:
        text.read(path)
    assert str(error.value) == (
        f"{path}:2:3: byte 0xa2 is not UTF-8 text; expected a text in the .prototxt form, "
        "not a binary file such as a .caffemodel"
    )
