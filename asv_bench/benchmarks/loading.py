"""Reading and writing: prototxt texts and 100 MB of weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .common import ALL_THREADS, Backend
from .net import make, resnet50


class Weights:
    """A .caffemodel of ResNet-50 (102 MB), in the page cache."""

    timeout = 300

    def setup(self):
        import caffebn

        Backend("cpu", ALL_THREADS)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "net.caffemodel")
        self.net = make(resnet50(1, train=False), train=False)
        self.net.save(str(self.path))
        self.caffebn = caffebn

    def teardown(self):
        self.folder.cleanup()

    def time_read_bytes(self):
        """The yardstick: the bytes of the file."""
        self.path.read_bytes()

    def time_read_message(self):
        from caffebn.proto import binary

        binary.read(self.path)

    def time_copy_from(self):
        self.net.copy_from(str(self.path))

    def time_save(self):
        self.net.save(str(self.path))


class Text:
    """The prototxt of ResNet-50 (training), without making a net of it."""

    def setup(self):
        from caffebn.proto import text, upgrade

        self.text, self.upgrade = text, upgrade
        self.prototxt = resnet50(1, train=True)
        self.message = text.parse(self.prototxt, "NetParameter")

    def time_parse(self):
        self.text.parse(self.prototxt, "NetParameter")

    def time_print(self):
        self.text.dump(self.message)

    def time_upgrade(self):
        self.upgrade.net(self.message)


class Blocks:
    """The prototxt of ResNet-152 in blocks, and as the plain text of 5,900 lines that it becomes."""

    def setup(self):
        from caffebn import blocks
        from caffebn.proto import text

        self.blocks = blocks
        self.short = (
            'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 64, 56, 56] } } }\n'
        )
        for stage, (width, repeat) in enumerate([(64, 3), (128, 8), (256, 36), (512, 3)], 2):
            self.short += (
                f'block {{ type: "ResidualBottleneck" name: "res{stage}" width: {width} repeat: {repeat} }}\n'
            )
        self.plain = text.dump(blocks.parse(self.short))

    def time_blocks(self):
        self.blocks.parse(self.short)

    def time_plain(self):
        self.blocks.parse(self.plain)
