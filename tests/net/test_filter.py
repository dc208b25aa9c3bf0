"""Phase, level and stage rules."""

import pytest

from caffebn.errors import NetError
from caffebn.net.filter import filter_net
from caffebn.proto import Message, text


def names(rules: str, phase: str = "TRAIN", level: int = 0, stages: tuple[str, ...] = ()) -> list[str]:
    net = text.parse(f'layer {{ name: "a" type: "ReLU" {rules} }}', "NetParameter")
    state = Message("NetState", phase=phase, level=level)
    state.stage = list(stages)
    return [layer.name for layer in filter_net(net, state).layer]


@pytest.mark.parametrize(
    ("rules", "phase", "level", "stages", "stays"),
    [
        ("", "TRAIN", 0, (), True),
        ("include { phase: TRAIN }", "TRAIN", 0, (), True),
        ("include { phase: TRAIN }", "TEST", 0, (), False),
        ("exclude { phase: TRAIN }", "TRAIN", 0, (), False),
        ("exclude { phase: TRAIN }", "TEST", 0, (), True),
        ("include { phase: TRAIN } include { stage: 'deploy' }", "TEST", 0, ("deploy",), True),
        ("include { phase: TEST stage: 'deploy' }", "TEST", 0, (), False),
        ("include { stage: 'a' stage: 'b' }", "TEST", 0, ("a",), False),
        ("include { stage: 'a' stage: 'b' }", "TEST", 0, ("b", "a"), True),
        ("include { not_stage: 'a' }", "TEST", 0, ("a",), False),
        ("include { not_stage: 'a' }", "TEST", 0, ("b",), True),
        ("include { min_level: 2 }", "TEST", 1, (), False),
        ("include { min_level: 2 }", "TEST", 2, (), True),
        ("include { max_level: 2 }", "TEST", 3, (), False),
        ("include { min_level: 1 max_level: 2 }", "TEST", 2, (), True),
        ("exclude { }", "TEST", 0, (), False),
        ("include { }", "TEST", 0, (), True),
        ("exclude { stage: 'x' } exclude { min_level: 1 }", "TEST", 1, (), False),
    ],
)
def test_rules(rules, phase, level, stages, stays):
    assert names(rules, phase, level, stages) == (["a"] if stays else [])


def test_both_kinds_are_refused():
    with pytest.raises(NetError, match=r'<text>:1:\d+: layer "a": has include and exclude rules'):
        names("include { phase: TRAIN } exclude { phase: TEST }")


def test_the_original_is_untouched():
    net = text.parse('layer { name: "a" include { phase: TEST } }', "NetParameter")
    filter_net(net, Message("NetState", phase="TRAIN"))
    assert len(net.layer) == 1
