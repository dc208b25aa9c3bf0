"""What templates and blocks mean."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from caffebn import blocks
from caffebn.errors import CaffebnWarning
from caffebn.proto import Identifier, Message, text


def names(layers):
    return [layer.name for layer in layers]


def test_a_block_becomes_the_layers_of_its_template(expand):
    layers = expand("""
        template {
          name: "Fc"
          param { num_output: int }
          layer {
            name: ${name}
            type: "InnerProduct"
            bottom: ${bottom}
            top: ${top}
            inner_product_param { num_output: ${num_output} }
          }
          layer { name: "${name}_relu" type: "ReLU" bottom: ${top} top: ${top} }
        }
        block { type: "Fc" name: "ip1" bottom: "data" num_output: 500 }
        block { type: "Fc" name: "ip2" num_output: 10 top: "score" }
    """)
    assert names(layers) == ["ip1", "ip1_relu", "ip2", "ip2_relu"]
    assert layers[0] == Message(
        "LayerParameter", name="ip1", type="InnerProduct", bottom=["data"], top=["ip1"],
        inner_product_param={"num_output": 500},
    )  # fmt: skip
    assert (layers[2].bottom, layers[2].top, layers[3].top) == (["ip1"], ["score"], ["score"])


def test_layers_and_blocks_keep_their_order():
    net = blocks.parse("""
        name: "n"
        layer { name: "a" }
        template { name: "T" layer { name: "${name}1" } layer { name: "${name}2" } }
        block { type: "T" name: "b" }
        layer { name: "c" }
        block: < type: "T", name: "d"; >;
        force_backward: true
    """)
    assert names(net.layer) == ["a", "b1", "b2", "c", "d1", "d2"]
    assert (net.name, net.force_backward) == ("n", True)


def test_values_of_all_kinds(expand):
    (layer,) = expand("""
        template {
          name: "T"
          param {
            i: int  f: float  b: bool  s: string  xs: [int]  m: message
            di: -3  df: 0.25  db: true  ds: "x${i}"  dw: MAX  dxs: [1.5, 2]  dm { name: "w" }  none_: none  de: ${i * 2}
          }
          layer {
            name: "${i} ${f} ${b} ${s} ${di} ${df} ${db} ${ds} ${dw} ${de} ${none_ == none} ${len(xs)}"
            param: ${m}
            param: ${dm}
            loss_weight: ${dxs}
            pooling_param { pool: ${dw} }
          }
        }
        block { type: "T" i: 4 f: 1 b: false s: "it's" xs: 1 xs: 2 m { lr_mult: 2 } }
    """)
    assert layer.name == "4 1.0 false it's -3 0.25 true x4 MAX 8 true 2"
    assert layer.param == [Message("ParamSpec", lr_mult=2), Message("ParamSpec", name="w")]
    assert layer.loss_weight == [1.5, 2]
    assert layer.pooling_param.pool == "MAX"


def test_expressions_in_every_kind_of_field(expand):
    with pytest.warns(
        CaffebnWarning, match=r'in block \(T\) at <text>:14:13: layer "ab3": .* no field "my_param"'
    ):
        (layer,) = expand("""
        template {
          name: "T"
          param { n: int m { z: ${n} } }
          layer {
            name: "a" 'b' "${n}"
            propagate_down: ${n > 1}
            loss_weight: [${n}, 0.5, ${n / 4}]
            top: ["t", ${"u" + text(n)}]
            phase: ${"TEST" if n > 1 else "TRAIN"}
            memory_data_param { batch_size: ${n} }
            blobs { data: ${n} data: [1, ${n}] double_data: ${n / 2} shape { dim: ${n} } }
            my_param { a: ${n} b: ${n > 1} c: ${"s"} d: [${n}, 2] e: ${m} }
          }
        }
        block { type: "T" n: 3 }
        """)
    assert layer.name == "ab3"
    assert layer.propagate_down == [True]
    assert layer.loss_weight == [3, 0.5, 0.75]
    assert layer.top == ["t", "u3"]
    assert layer.phase == "TEST"
    assert layer.memory_data_param.batch_size == 3
    np.testing.assert_array_equal(layer.blobs[0].data, np.array([3, 1, 3], np.float32))
    np.testing.assert_array_equal(layer.blobs[0].double_data, [1.5])
    assert layer.blobs[0].shape.dim == [3]
    (fork,) = layer.unknown
    values = {u.name: u.value for u in fork.value.unknown}
    assert (values["a"], values["b"], values["c"], values["d"]) == (3, "true", "s", [3, 2])
    assert isinstance(values["b"], Identifier)
    assert [(u.name, u.value) for u in values["e"].unknown] == [("z", 3)]


def test_none_leaves_a_field_out(expand):
    (layer,) = expand("""
        template {
          name: "T"
          param { top: none  m: none }
          layer { name: ${none} top: ${top} batch_norm_param: ${m} convolution_param { group: ${none} pad: ${none} } }
        }
        block { type: "T" name: "a" top: ${none} m: none }
    """)
    assert layer == Message("LayerParameter", convolution_param={})


def test_a_list_fills_a_repeated_field(expand):
    (layer,) = expand("""
        template { name: "T" param { bottom: [string] sizes: [] } layer { bottom: "x" bottom: ${bottom}
                   convolution_param { kernel_size: ${sizes} } } }
        block { type: "T" bottom: "a" bottom: ["b", "c"] sizes: [3, 5] }
    """)
    assert layer.bottom == ["x", "a", "b", "c"]
    assert layer.convolution_param.kernel_size == [3, 5]


def test_a_message_is_read_where_it_stands(expand):
    (layer,) = expand("""
        template {
          name: "Outer"
          param { filler { type: "msra" } width: 7 }
          block { type: "Inner" filler: ${filler} std: 3.0 }
        }
        template {
          name: "Inner"
          param { filler: message  std: float }
          layer { convolution_param { weight_filler: ${filler} } }
        }
        block { type: "Outer" filler { type: "gaussian" std: ${1 / 4} } }
    """)
    assert layer.convolution_param.weight_filler == Message("FillerParameter", type="gaussian", std=0.25)


def test_plain_layers_are_left_to_the_letter(expand):
    (layer,) = expand('layer { name: "${x} $${" type: "when" }')
    assert layer.name == "${x} $${"
    with pytest.warns(CaffebnWarning, match='LayerParameter has no field "repeat"; it is kept'):
        (layer,) = expand("layer { repeat { count: 2 } }")
    assert layer.unknown[0].name == "repeat"


def test_two_dollars_stand_for_one(expand):
    (layer,) = expand(
        r"""template { name: "T" layer { name: "$${HOME} $x \t ${'$'}" } } block { type: "T" }"""
    )
    assert layer.name == "${HOME} $x \t $"


# -- bottoms and tops


def test_the_bottom_is_the_first_top_of_the_layer_before(expand):
    layers = expand("""
        template { name: "T" layer { name: ${name} bottom: ${bottom} top: ${top} } }
        block { type: "T" name: "a" }
        layer { name: "data" top: "x" top: "label" }
        block { type: "T" name: "b" }
    """)
    assert [layer.bottom for layer in layers] == [["data"], [], ["x"]]


def test_previous_moves_on_inside_a_template(expand):
    layers = expand("""
        template { name: "T" repeat { count: 3 layer { bottom: ${previous} top: "${name}${i}" } } }
        block { type: "T" name: "a" }
    """)
    assert [layer.bottom for layer in layers] == [["data"], ["a0"], ["a1"]]


def test_a_bottom_that_nobody_reads_need_not_be_there():
    net = blocks.parse(
        'template { name: "T" layer { name: "${name}" top: "x" } } block { type: "T" name: "a" }'
    )
    assert names(net.layer) == ["a"]


# -- steering


def test_when_and_else(expand):
    template = """
        template {
          name: "T"
          param { n: int }
          when { test: ${n > 1} layer { name: "more" } } else { layer { name: "one" } }
          when { test: ${n > 2} layer { name: "many" } }
          layer { name: "last" when { test: ${n > 1} top: "a" top: "b" } else { top: "c" } type: "X" }
        }
    """
    one, three = (expand(template + f'block {{ type: "T" n: {n} }}') for n in (1, 3))
    assert names(one) == ["one", "last"] and one[-1].top == ["c"]
    assert names(three) == ["more", "many", "last"] and three[-1].top == ["a", "b"]
    assert three[-1].type == "X"


def test_repeat(expand):
    layers = expand("""
        template {
          name: "T"
          param { n: int }
          repeat {
            count: ${n}
            repeat { count: ${i + 1} index: "j" layer { name: "${i}${j}" } }
          }
          layer { name: "all" type: "Concat" repeat { count: ${n}, index: "k"; bottom: "${k}" } top: "all" }
        }
        block { type: "T" n: 3 }
        block { type: "T" n: 0 }
    """)
    assert names(layers) == ["00", "10", "11", "20", "21", "22", "all", "all"]
    assert [layer.bottom for layer in layers[-2:]] == [["0", "1", "2"], []]
    assert layers[-1].top == ["all"]


def test_let_lasts_to_the_end_of_its_body(expand):
    layers = expand("""
        template {
          name: "T"
          let { a: 1 b: ${a + 1} c { type: "x" } }
          repeat { count: 2 let { a: ${a + 10 * (i + 1)} } layer { name: "${a} ${b}" } }
          when { test: true let { a: 7 } }
          layer { name: "${a} ${b}" convolution_param { weight_filler: ${c} } }
        }
        block { type: "T" }
    """)
    assert names(layers) == ["11 2", "21 2", "1 2"]
    assert layers[-1].convolution_param.weight_filler.type == "x"


def test_templates_use_each_other_and_themselves(expand):
    layers = expand("""
        template {
          name: "Count"
          param { n: int }
          layer { name: "${name}${n}" }
          when { test: ${n > 0} block { type: "Count" name: ${name} n: ${n - 1} } } else { block { type: "End" } }
        }
        template { name: "End" layer { name: "end" } }
        block { type: "Count" name: "c" n: 3 }
    """)
    assert names(layers) == ["c3", "c2", "c1", "c0", "end"]


def test_the_variables_of_a_template_are_its_own(refusal):
    said = refusal("""
        template { name: "Outer" param { secret: 1 } block { type: "Inner" } }
        template { name: "Inner" layer { name: "${secret}" } }
        block { type: "Outer" }
    """)
    assert said.endswith('${secret}: nothing here is called "secret"')


# -- rules


def test_rules_of_a_block_are_those_of_its_layers(expand):
    layers = expand("""
        template { name: "T" layer { name: "a" } block { type: "U" } }
        template { name: "U" layer { name: "b" } layer { name: "c" } }
        block { type: "T" include { phase: TEST } include { stage: "dry" } }
        block { type: "U" exclude { stage: "deploy" } }
        block { type: "U" }
    """)
    rules = [Message("NetStateRule", phase="TEST"), Message("NetStateRule", stage=["dry"])]
    assert [layer.include for layer in layers[:3]] == [rules] * 3
    assert [layer.exclude for layer in layers[3:5]] == [[Message("NetStateRule", stage=["deploy"])]] * 2
    assert layers[5] == Message("LayerParameter", name="b")


# -- names of templates


def test_a_template_of_the_user_goes_before_a_built_in_one(expand):
    layers = expand("""
        template { name: "Conv" layer { name: "mine" } }
        block { type: "Conv" name: "a" }
        block { type: "ConvBnRelu" name: "b" bottom: "data" num_output: 2 }
    """)
    assert names(layers) == ["mine", "b", "b/bn", "b/scale", "b/relu"]


def test_nets_inside_a_solver():
    solver = blocks.parse(
        'net_param { template { name: "T" layer { name: ${name} } } block { type: "T" name: "a" } } base_lr: 1',
        type="SolverParameter",
    )
    assert (names(solver.net_param.layer), solver.base_lr) == (["a"], 1)


def test_what_comes_out_is_plain_prototxt(expand):
    layers = expand('block { type: "ResidualBasic" name: "res2" width: 4 }')
    net = Message("NetParameter", layer=layers)
    assert text.parse(text.dump(net), strict=True) == net
    assert pickle.loads(pickle.dumps(net)) == net
    assert net.copy().layer[0].where == layers[0].where
