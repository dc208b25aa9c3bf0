"""Layer types that other packages register, by hand or by an entry point."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from caffebn.errors import NetError
from caffebn.layers import LAYERS, Layer, PythonLayer, layer_type_list, register
from caffebn.net import Net

MODULE = """
from caffebn.layers import Layer, register


@register("{type}")
class Doubled(Layer):
    "Twice the bottom."

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.ops.scale_copy(bottom[0].data, 2.0, top[0].data)
"""

TEXT = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 3 } } }
layer { name: "d" type: "Doubled" bottom: "x" top: "y" }
"""


@pytest.fixture(autouse=True)
def same_types_after(monkeypatch):
    """Forget the types that a test registers."""
    before = dict(LAYERS)
    yield
    LAYERS.clear()
    LAYERS.update(before)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a package with a module and entry points, given as {type: value}."""

    def install(name, content, **entries):
        site = tmp_path / name
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(content)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{key} = {value}" for key, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[caffebn.layers]", *lines]))
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return install


def test_an_entry_point_is_loaded_when_a_net_needs_it(install):
    install("brings_doubled", MODULE.format(type="Doubled"), Doubled="brings_doubled")
    assert "Doubled" in layer_type_list() and "Doubled" not in LAYERS
    assert "brings_doubled" not in sys.modules
    assert Net.from_text(TEXT, "TEST").forward(x=[1, 2, 3])["y"].tolist() == [2, 4, 6]
    assert "Doubled" in LAYERS


def test_a_package_may_be_imported_by_hand(install):
    install("doubles", MODULE.format(type="Doubled"))
    __import__("doubles")
    assert Net.from_text(TEXT, "TEST").forward(x=[1, 2, 3])["y"].tolist() == [2, 4, 6]


def test_the_nearest_name_may_be_that_of_a_package(install):
    install("brings_doubled", MODULE.format(type="Doubled"), Doubled="brings_doubled")
    with pytest.raises(NetError, match='unknown layer type "Doubld"; did you mean "Doubled"'):
        Net.from_text(TEXT.replace('"Doubled"', '"Doubld"'), "TEST")


def test_types_of_caffebn_come_first(install):
    install("brings_relu", "raise RuntimeError", ReLU="brings_relu")
    Net.from_text(TEXT.replace('"Doubled"', '"ReLU"'), "TEST")


@pytest.mark.parametrize(
    ("content", "value", "said"),
    [
        (
            "import no_such_module",
            "bad",
            'layer type "Doubled" is brought by the package "bad" (bad), which cannot be loaded: '
            "ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (
            "",
            "bad:Doubled",
            'layer type "Doubled" is brought by the package "bad" (bad:Doubled), which cannot be loaded: '
            "AttributeError: module 'bad' has no attribute 'Doubled'",
        ),
        (
            MODULE.format(type="Tripled"),
            "bad",
            'layer type "Doubled" is announced by bad, which does not register it: it needs a class with the decorator '
            '@caffebn.layers.register("Doubled")',
        ),
    ],
)
def test_packages_that_do_not_keep_their_word(content, value, said, install):
    install("bad", content, Doubled=value)
    with pytest.raises(NetError) as e:
        Net.from_text(TEXT, "TEST")
    assert e.value.message == said


def test_two_packages_with_one_type(install):
    install("one", "", Doubled="one")
    install("two", "", Doubled="two")
    with pytest.raises(NetError) as e:
        Net.from_text(TEXT, "TEST")
    assert e.value.message == (
        'layer type "Doubled" is brought by two packages, the package "two" (two) and the package "one" (one): '
        "uninstall one of them"
    )
    assert "Doubled" in layer_type_list()
    Net.from_text(TEXT.replace('"Doubled"', '"ReLU"'), "TEST")


def test_a_definition_may_be_run_again():
    """As a cell of a notebook is."""
    for factor in (2, 3):
        exec(MODULE.format(type="Doubled").replace("2.0", f"{factor}.0"), {"__name__": "cell"})
        np.testing.assert_array_equal(
            Net.from_text(TEXT, "TEST").forward(x=[1, 2, 3])["y"], np.arange(1, 4) * factor
        )
    with pytest.raises(NetError, match=r'layer type "Doubled" is registered already, by cell\.Doubled'):
        exec(MODULE.format(type="Doubled"), {"__name__": "another"})


def test_the_field_must_exist():
    with pytest.raises(NetError) as e:
        register("Doubled", "relu_parm")(type("Doubled", (Layer,), {}))
    assert e.value.message == (
        'layer type "Doubled": LayerParameter has no field "relu_parm"; did you mean "relu_param"?'
    )
    assert "Doubled" not in LAYERS


def test_what_is_registered_must_be_a_layer():
    for wrong in (PythonLayer, object, lambda: None):
        with pytest.raises(
            NetError, match='layer type "Doubled": expected a class derived from caffebn.layers.Layer'
        ):
            register("Doubled")(wrong)
