"""Laws: a text without blocks is read as ever, and a template changes nothing by being one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from caffebn import blocks
from caffebn.proto import Message, text

STRINGS = st.text(alphabet="ab${}\\\"'#\n é", max_size=8)


@st.composite
def layers(draw):
    """A layer with strings of all kinds, numbers, messages and lists."""
    layer = Message("LayerParameter", name=draw(STRINGS), type=draw(STRINGS))
    layer.bottom = draw(st.lists(STRINGS, max_size=2))
    layer.loss_weight = draw(st.lists(st.floats(width=32, allow_nan=False), max_size=2))
    if draw(st.booleans()):
        layer.convolution_param = {
            "num_output": draw(st.integers(0, 2**32 - 1)),
            "bias_term": draw(st.booleans()),
            "engine": draw(st.sampled_from(["DEFAULT", "CAFFE", "CUDNN"])),
            "weight_filler": {"type": draw(STRINGS)},
        }
    if draw(st.booleans()):
        layer.include = [{"phase": "TRAIN"}, {"stage": draw(st.lists(STRINGS, max_size=2))}]
    return layer


NETS = st.lists(layers(), max_size=4).map(lambda made: Message("NetParameter", name="n", layer=made))


@given(NETS)
def test_a_text_without_blocks_is_read_as_ever(net):
    plain = text.dump(net)
    assert blocks.parse(plain, strict=True) == text.parse(plain, strict=True) == net


@given(NETS)
def test_places_are_those_of_the_plain_reader(net):
    plain = text.dump(net)
    for ours, theirs in zip(blocks.parse(plain).layer, text.parse(plain).layer, strict=True):
        assert ours.where == theirs.where and str(ours.where) == str(theirs.where)
        assert ours.where_of("name") == theirs.where_of("name")


@given(NETS)
def test_a_block_of_a_template_without_parameters_is_its_layers(net):
    body = text.dump(Message("NetParameter", layer=net.layer)).replace("${", "$${")
    made = blocks.parse(f'name: "n" template {{ name: "T"\n{body}}} block {{ type: "T" }}', strict=True)
    assert made == net


@given(NETS, st.integers(0, 3))
def test_repeat_repeats(net, count):
    body = text.dump(Message("NetParameter", layer=net.layer)).replace("${", "$${")
    once = f'template {{ name: "T"\nrepeat {{ count: {count}\n{body}}} }} block {{ type: "T" }}'
    assert blocks.parse(once, strict=True).layer == list(net.layer) * count


@given(NETS)
def test_what_comes_out_is_plain(net):
    body = text.dump(Message("NetParameter", layer=net.layer)).replace("${", "$${")
    made = blocks.parse(f'template {{ name: "T"\n{body}}} block {{ type: "T" }}', strict=True)
    assert text.parse(text.dump(made), strict=True) == made
