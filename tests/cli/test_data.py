"""caffebn data: databases and means."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffebn.data import datum_bytes, datum_values, picture, read_database, write_database
from caffebn.net import Net
from caffebn.proto import binary, blob_array
from tests.data.test_sets import write_cifar, write_mnist

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist(run, here, name):
    (here / "in").mkdir()
    made = write_mnist(here / "in")
    done = run("data", name, "out/there", "--from", "in")
    assert done.exit_code == 0, done.stderr
    stem = name.replace("-", "_")
    assert done.stdout == (
        f"out/there/{stem}_train_lmdb: 5 records of 1x4x6\nout/there/{stem}_test_lmdb: 3 records of 1x4x6\n"
    )
    for part, (images, labels) in made.items():
        records = list(read_database(f"out/there/{stem}_{part}_lmdb"))
        assert [key for key, _ in records] == [b"%08d" % i for i in range(len(images))]
        found = [datum_values(record) for _, record in records]
        assert [label for _, label in found] == labels.tolist()
        np.testing.assert_array_equal([values for values, _ in found], images[:, None])


def test_cifar10_and_its_mean_in_a_net(run, here):
    (here / "in").mkdir()
    made = write_cifar(here / "in", "sheets")
    assert run("data", "cifar10", "out", "--from", "in").exit_code == 0
    done = run("data", "mean", "out/cifar10_train_lmdb", "out/mean.binaryproto")
    assert done.exit_code == 0, done.stderr
    train = np.concatenate([made[f"data_batch_{i}"][0] for i in range(1, 6)]).astype(np.float64)
    mean = blob_array(binary.read("out/mean.binaryproto", "BlobProto"))
    np.testing.assert_allclose(mean, train.mean(0, keepdims=True), rtol=1e-6)
    values = " ".join(f"{v:.4f}" for v in train.mean((0, 2, 3)))
    assert done.stdout == (
        f"out/mean.binaryproto: mean of 10 records of 3x32x32\nmean_value of each channel: {values}\n"
    )
    net = Net.from_text(
        'layer { name: "d" type: "Data" top: "data" data_param { source: "out/cifar10_train_lmdb" batch_size: 10 '
        'backend: LMDB } transform_param { mean_file: "out/mean.binaryproto" } }',
        "TRAIN",
    )
    np.testing.assert_allclose(net.forward()["data"], train - train.mean(0), atol=1e-4)


def test_a_set_refuses_to_overwrite(run, here):
    write_mnist(here)
    (here / "mnist_test_lmdb").mkdir()
    done = run("data", "mnist", ".", "--from", ".")
    assert done.exit_code == 1
    assert "mnist_test_lmdb: exists already; choose another folder, or delete it first" in done.stderr
    assert not (here / "mnist_train_lmdb").exists()


def test_without_files_and_network(run, here, monkeypatch):
    import urllib.request

    def urlopen(url, timeout):
        raise OSError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    done = run("data", "mnist", "out")
    assert done.exit_code == 1
    assert "cannot be downloaded: no route; without a network" in done.stderr
    assert os.listdir() == []


# -- images ------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(here) -> list[np.ndarray]:
    """Write three pictures in a folder, and a list; return them as BGR."""
    (here / "in").mkdir()
    rng = np.random.default_rng(0)
    made = []
    for i in range(3):
        rgb = rng.integers(0, 256, (6, 5, 3), np.uint8)
        Image.fromarray(rgb).save(here / "in" / f"{i}.png")
        made.append(rgb.transpose(2, 0, 1)[::-1])
    (here / "list.txt").write_text("0.png 5\n1.png 6\n2.png 7\n")
    return made


def records() -> list[tuple[bytes, np.ndarray, int]]:
    return [(key, *datum_values(record)) for key, record in read_database("db")]


def test_images(run, pictures):
    done = run("data", "images", "list.txt", "db", "--root", "in")
    assert (done.exit_code, done.stdout) == (0, "db: 3 records\n"), done.stderr
    found = records()
    assert [key for key, _, _ in found] == [b"00000000_0.png", b"00000001_1.png", b"00000002_2.png"]
    assert [label for _, _, label in found] == [5, 6, 7]
    np.testing.assert_array_equal([values for _, values, _ in found], pictures)


def test_images_resized_and_grey(run, pictures):
    assert run(
        "data", "images", "list.txt", "db", "--root", "in", "--resize-height", 4, "--resize-width", 3, "--gray"
    ).exit_code == 0  # fmt: skip
    for (_, values, _), original in zip(records(), pictures, strict=True):
        grey = np.rint(np.tensordot([0.114, 0.587, 0.299], original, 1)).astype(np.uint8)
        np.testing.assert_allclose(values[0], picture.resize(grey[None], 4, 3)[0], atol=1)


def test_images_shuffled(run, pictures):
    orders = []
    for seed in range(6):
        assert (
            run(
                "data", "images", "list.txt", f"db{seed}", "--root", "in", "--shuffle", "--seed", seed
            ).exit_code
            == 0
        )
        orders.append(tuple(datum_values(r)[1] for _, r in read_database(f"db{seed}")))
    assert all(sorted(order) == [5, 6, 7] for order in orders) and len(set(orders)) > 1


def test_images_stored_as_they_are(run, pictures, here):
    assert run("data", "images", "list.txt", "db", "--root", "in", "--encoded").exit_code == 0
    for i, (_, record) in enumerate(read_database("db")):
        datum = binary.parse(record, "Datum")
        assert datum.encoded and bytes(datum.data) == (here / "in" / f"{i}.png").read_bytes()


def test_images_compressed_anew(run, pictures):
    assert run(
        "data", "images", "list.txt", "db", "--root", "in", "--encode-type", "bmp", "--resize-height", 3
    ).exit_code == 0  # fmt: skip
    for (_, record), original in zip(read_database("db"), pictures, strict=True):
        assert bytes(binary.parse(record, "Datum").data)[:2] == b"BM"
        np.testing.assert_array_equal(datum_values(record)[0], picture.resize(original, 3, 5))


def test_images_of_several_sizes(run, pictures, here):
    Image.new("RGB", (4, 6)).save(here / "in" / "1.png")
    done = run("data", "images", "list.txt", "db", "--root", "in", "--check-size")
    assert done.exit_code == 1
    assert done.stderr == (
        "error: list.txt:2: in/1.png: is 6 x 4 (height x width), the first picture is 6 x 5\n"
    )
    assert not (here / "db").exists()


def test_an_image_that_is_missing(run, pictures, here):
    (here / "in" / "2.png").unlink()
    done = run("data", "images", "list.txt", "db", "--root", "in")
    assert done.exit_code == 1
    assert done.stderr == "error: list.txt:3: in/2.png: cannot read the picture: No such file or directory\n"
    assert not (here / "db").exists()


# -- mean --------------------------------------------------------------------------------------------


def test_the_mean_of_several_sizes(run):
    write_database("db", ((b"%d" % n, datum_bytes(np.zeros((1, n, 2), np.uint8))) for n in (2, 3)))
    done = run("data", "mean", "db", "out")
    assert done.exit_code == 1
    assert "db, record 1: is 1 x 3 x 2, the ones before are 1 x 2 x 2" in done.stderr
    assert not Path("out").exists()


def test_the_mean_of_nothing(run):
    done = run("data", "mean", "db", "out")
    assert done.exit_code == 1 and "db: there is no such database" in done.stderr
