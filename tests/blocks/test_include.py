"""Including files."""

from __future__ import annotations

import os

import pytest

from caffebn import Net, blocks
from caffebn.blocks.net_reader import MAX_INCLUDES
from caffebn.errors import FileError, ParseError


@pytest.fixture
def write(tmp_path):
    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.prototxt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def said(path):
    with pytest.raises(ParseError) as error:
        blocks.read(path)
    return str(error.value)


def test_templates_and_layers_of_another_file(write):
    folder = write(
        net='name: "n" layer { name: "a" } include: "lib/parts.prototxt" block { type: "T" name: "d" }',
        lib__parts='include: "more.prototxt"; layer { name: "b" } block { type: "T" name: "c" }',
        lib__more='template { name: "T" layer { name: ${name} } }',
    )
    net = blocks.read(folder / "net.prototxt")
    assert [layer.name for layer in net.layer] == ["a", "b", "c", "d"]
    assert str(net.layer[1].where) == f"{folder}/lib/parts.prototxt:1:27"
    assert str(net.layer[3].where).startswith(
        f'{folder}/net.prototxt:1:61: in block "d" (T) at {folder}/lib/more'
    )


def test_a_file_is_included_once(write):
    folder = write(
        net='include: "a.prototxt" include: "b.prototxt" include: "./a.prototxt" block { type: "T" name: "x" }',
        a='include: "t.prototxt" layer { name: "a" }',
        b='include: "t.prototxt" layer { name: "b" }',
        t='template { name: "T" layer { name: ${name} } }',
    )
    assert [layer.name for layer in blocks.read(folder / "net.prototxt").layer] == ["a", "b", "x"]


def test_a_text_includes_from_where_it_says_it_is(write, monkeypatch):
    folder = write(a='layer { name: "a" }')
    assert len(blocks.parse('include: "a.prototxt"', str(folder / "none.prototxt")).layer) == 1
    monkeypatch.chdir(folder)
    assert len(blocks.parse('include: "a.prototxt"').layer) == 1


def test_a_net_of_a_file_with_includes(write):
    folder = write(
        net='layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } } include: "a.prototxt"',
        a='template { name: "T" layer { name: ${name} type: "ReLU" bottom: ${bottom} top: ${top} } } '
        'block { type: "T" name: "r" }',
    )
    assert Net(folder / "net.prototxt", "TEST").outputs == ["r"]


def test_circles(write):
    folder = write(
        a='include: "b.prototxt"', b='\n include: "c.prototxt"', c='include: "../{}/b.prototxt"',
        me='include: "me.prototxt"',
    )  # fmt: skip
    (folder / "c.prototxt").write_text(f'include: "../{folder.name}/b.prototxt"')
    assert said(folder / "a.prototxt") == (
        f"{folder}/c.prototxt:1:10: files include each other in a circle: b.prototxt -> c.prototxt -> b.prototxt"
    )
    assert said(folder / "me.prototxt").endswith("in a circle: me.prototxt -> me.prototxt")


def test_missing_files(write):
    folder = write(net='\n\ninclude: "lib/none.prototxt"')
    assert said(folder / "net.prototxt") == (
        f'{folder}/net.prototxt:3:10: cannot include "lib/none.prototxt": there is no such file, '
        f"looked for {folder}/lib/none.prototxt"
    )


def test_only_files_are_included(write):
    folder = write(net='include: "sub"', sub__a="")
    assert "there is no such file" in said(folder / "net.prototxt")
    os.mkfifo(folder / "pipe")
    (folder / "net.prototxt").write_text('include: "pipe"')
    assert "there is no such file" in said(folder / "net.prototxt")


def test_files_that_cannot_be_read(write):
    folder = write(net='include: "binary.prototxt"', binary="")
    (folder / "binary.prototxt").write_bytes(b"name: \xff")
    assert said(folder / "net.prototxt").startswith(
        f"{folder}/binary.prototxt:1:7: byte 0xff is not UTF-8 text"
    )
    with open(folder / "binary.prototxt", "wb") as f:
        f.truncate(2**28 + 1)
    assert said(folder / "net.prototxt").startswith(
        f'{folder}/net.prototxt:1:10: cannot include "binary.prototxt": '
    )
    with pytest.raises(FileError, match="No such file"):
        blocks.read(folder / "none.prototxt")


def test_what_an_included_file_may_hold(write):
    folder = write(net='include: "a.prototxt"', a='name: "x"')
    assert said(folder / "net.prototxt") == (
        f'{folder}/a.prototxt:1:1: expected layer, block, template, include in an included file, found "name"'
    )
    write(a="layer { } }")
    assert said(folder / "net.prototxt").startswith(
        f"{folder}/a.prototxt:1:11: expected layer, block, template"
    )


def test_an_include_inside_a_template(write):
    text = 'template { name: "T" include: "a.prototxt" }\nblock { type: "T" }'
    with pytest.raises(ParseError, match=r"in a template, found \"include\""):
        blocks.parse(text)


@pytest.mark.parametrize("depth", [MAX_INCLUDES, MAX_INCLUDES + 1])
def test_depth(write, depth):
    files = {f"f{i}": f'include: "f{i + 1}.prototxt"' for i in range(depth)}
    folder = write(**files, **{f"f{depth}": 'layer { name: "end" }'})
    if depth <= MAX_INCLUDES:
        assert blocks.read(folder / "f0.prototxt").layer[0].name == "end"
    else:
        assert said(folder / "f0.prototxt").endswith("files include each other more than 16 deep")
