"""What docs/data.md shows runs."""

from __future__ import annotations

import re
import textwrap

import pytest

from caffebn.data import datum_values, read_database, write_database


@pytest.fixture
def blocks(checkout) -> list[str]:
    """The indented blocks of the page."""
    page = (checkout / "docs" / "data.md").read_text(encoding="utf-8")
    return [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.M)]


def test_the_database_of_arrays(here, blocks):
    (code,) = [block for block in blocks if "import numpy" in block]
    exec(code, {})
    labels = [datum_values(record)[1] for _, record in read_database("my_lmdb")]
    assert labels == [i % 10 for i in range(100)]


def test_the_layer_and_its_position(lmdb, net, blocks):
    (text,) = [block for block in blocks if "data_param {" in block]
    text = text.replace("data/cifar10_train_lmdb", "db").replace('mean_file: "mean.binaryproto"', "")
    (code,) = [block for block in blocks if "layer.seek" in block]
    lmdb(4, (3, 32, 32))
    made = net(text.strip().removeprefix("layer {").removesuffix("}"))
    assert made.forward()["data"].shape == (100, 3, 28, 28)
    exec(code, {"net": made})
    assert made.layer_dict["data"].position == 0


def test_a_leveldb_is_a_series_of_keys_and_records(here):
    class DB:
        def __iter__(self):
            return iter([(b"0", b"x"), (b"1", b"y")])

    assert write_database("new_lmdb", DB()) == 2
