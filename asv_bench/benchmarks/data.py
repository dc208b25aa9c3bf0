"""Batches out of an LMDB, made by the thread that reads ahead: reading, unpacking, transforming."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from .common import SEED

# shape of the records, batch size, transform_param
CASES = {
    "mnist": ((1, 28, 28), 60, "scale: 0.00390625"),
    "cifar10": ((3, 32, 32), 100, "mean_value: 125 mean_value: 123 mean_value: 114"),
    "cifar10_crop": ((3, 32, 32), 100, "mean_value: 120 crop_size: 28 mirror: true"),
    "imagenet": (
        (3, 256, 256),
        16,
        "mean_value: 104 mean_value: 117 mean_value: 123 crop_size: 224 mirror: true",
    ),
}


class Lmdb:
    """One batch of a Data layer."""

    params = [list(CASES)]
    param_names = ["case"]

    def setup(self, case):
        from caffebn import Net
        from caffebn.data import datum_bytes, write_database

        shape, batch_size, transform = CASES[case]
        rng = np.random.default_rng(SEED)
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name, "db")
        images = rng.integers(0, 256, (4 * batch_size, *shape), np.uint8)
        write_database(path, ((b"%08d" % i, datum_bytes(image, i % 10)) for i, image in enumerate(images)))
        self.net = Net.from_text(
            'layer { name: "data" type: "Data" top: "data" top: "label" data_param { '
            f'source: "{path}" batch_size: {batch_size} backend: LMDB prefetch: 0 }} '
            f"transform_param {{ {transform} }} }}",
            "TRAIN",
        )
        self.net.forward()

    def teardown(self, case):
        del self.net
        self.folder.cleanup()

    def time_batch(self, case):
        self.net.forward()
