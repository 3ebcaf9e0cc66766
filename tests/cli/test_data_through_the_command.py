"""Data through the real command: what is refused ends it with 2 and one line, what is told reaches the terminal."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_kit import draw, draw_classes, write_table
from support import manyfit, write_study

STUDY = """
[study]
objective = "{objective}"
trials = 2
epochs = {epochs}
[data]
source = "{source}"
{data}
[model]
build = "{build}"
[train]
optimizer = "adam"
{train}
[space]
learning_rate = [{rates}]
[search]
sampler = "grid"
pruner = "none"
[run]
{run}
"""

MODELS = """
import keras
import numpy as np

i = np.arange(640) % 64
ids, y = (20_000_000 + i).reshape(-1, 1), i % 2
pixels = np.random.default_rng(0).integers(0, 256, (100, 4, 4)).astype("uint8")


def small():
    return ids, y


def large():
    return 3_000_000_000 + ids, y


def images():
    return pixels, pixels.reshape(100, 16)


def dense():
    return pixels[..., None], pixels[..., None]


def lookup(config, data):
    return keras.Sequential([
        keras.Input(data.input_shape, dtype="int64"),
        keras.layers.IntegerLookup(vocabulary=20_000_000 + np.arange(64)),
        keras.layers.Embedding(65, 8), keras.layers.Flatten(), keras.layers.Dense(1, "sigmoid"),
    ])


def embedding(config, data):
    inputs = keras.Input(data.input_shape, dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Embedding(64, 8)(keras.ops.mod(inputs, 64)))
    return keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.layer = keras.Sequential([keras.layers.Embedding(64, 8), keras.layers.Flatten(), keras.layers.Dense(1, "sigmoid")])

    def call(self, x):
        return self.layer(keras.ops.mod(keras.ops.cast(x, "int64"), 64))


def subclassed(config, data):
    return Subclassed()


def flat(config, data):
    return keras.Sequential([
        keras.Input(data.input_shape), keras.layers.Flatten(),
        keras.layers.Dense(16, kernel_initializer="zeros", bias_initializer="zeros"),
    ])


def image(config, data):
    return keras.Sequential([
        keras.Input(data.input_shape),
        keras.layers.Conv2D(data.outputs, 3, padding="same", kernel_initializer="zeros", bias_initializer="zeros"),
    ])
"""


def study(path: Path, source: str, **values: str) -> Path:
    filled = {
        "objective": "val_loss", "epochs": "1", "data": "", "build": "mlp", "train": "", "rates": "0.05, 0.1",
        "run": 'engine = "fit"\nbackend = "jax"', **values,
    }  # fmt: skip
    (path / "my.py").write_text(MODELS)
    return write_study(path, STUDY.format(source=source, **filled))


def told(path: Path) -> str:
    """Run a study that is refused, and return what it says; nothing is made."""
    done = manyfit("run", path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not path.with_suffix(".db").exists()
    return done.stderr


# ---------------------------------------------------------------- refused before any process is started


def encrypted(path: Path) -> None:
    np.savez(path / "d.npz", x=np.arange(40), y=np.arange(40))
    raw = bytearray((path / "d.npz").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + offset] |= 1
    (path / "d.npz").write_bytes(raw)


def test_encrypted_arrays_are_refused_in_one_line(tmp_path):
    encrypted(tmp_path)
    assert "encrypted; write it without a password" in told(study(tmp_path, "d.npz"))


def test_unknown_array_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(40), y=np.arange(40), samples=np.arange(40))
    assert "unknown key 'samples'" in told(study(tmp_path, "d.npz"))


def test_missing_target_column_is_told_with_the_line_of_target(tmp_path):
    write_table(tmp_path, "size;kind", "{half};{kind}")
    path = study(tmp_path, "d.csv", data='target = "churn"')
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("target"))
    said = told(path)
    assert f"line {line}, data.target" in said
    assert "no column 'churn'" in said
    assert "size, kind" in said


def test_folders_that_may_be_classes_are_refused(tmp_path):
    for outer in ("training", "testing"):
        draw_classes(tmp_path / "pets" / outer)
    assert "below it only" in told(study(tmp_path, "pets"))


# ---------------------------------------------------------------- refused by a worker, before the first trial


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "values", "words"),
    [
        ("my.py:small", {}, ("20000000 to 20000063", "float32", 'dtype="int32"', "standard")),
        (
            "my.py:large",
            {"build": "my.py:embedding", "run": 'engine = "lanes"'},
            ("3020000063", "32 bits", "tensorflow"),
        ),
        ("d.csv", {"data": 'target = "kind"'}, ("d.csv, line 7", "'kind'", "'NA'", "missing value")),
    ],
)
def test_data_that_would_be_changed_are_refused_in_one_line(tmp_path, source, values, words):
    write_table(tmp_path, "size,kind", "{half},{bit}", extra="1,NA")
    said = told(study(tmp_path, source, **values))
    assert all(word in said for word in words), said


@pytest.mark.slow
def test_array_with_a_broken_header_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((\n")
    said = told(study(tmp_path, "d.npz"))
    assert "d.npz: x can't be read" in said


# ---------------------------------------------------------------- right values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "build", "run"),
    [
        pytest.param(
            "my.py:small", "my.py:lookup", 'engine = "fit"\nbackend = "tensorflow"', marks=pytest.mark.gallery
        ),
        pytest.param(
            "my.py:large", "my.py:subclassed", 'engine = "fit"\nbackend = "tensorflow"', marks=pytest.mark.gallery
        ),
        ("my.py:small", "my.py:embedding", 'engine = "lanes"'),
    ],
)
def test_large_ids_reach_the_model_as_they_are(tmp_path, source, build, run):
    """Odd and even ids are two classes: only whole ids tell them apart. In float32 two of three are merged."""
    train = 'loss = { name = "BinaryCrossentropy", from_logits = false }'
    path = study(tmp_path, source, objective="val_accuracy", epochs="3", build=build, run=run, train=train)
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] == 1.0


@pytest.mark.gallery
@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "build", "run"),
    [
        ("my.py:images", "my.py:flat", 'engine = "lanes"'),
        pytest.param("my.py:dense", "my.py:image", 'engine = "fit"\nbackend = "tensorflow"', marks=pytest.mark.gallery),
    ],
)
def test_autoencoder_of_bytes_is_judged_on_pixels_of_zero_to_one(tmp_path, source, build, run):
    """A model of zeros that hardly moves errs by the mean square of the pixels."""
    path = study(tmp_path, source, build=build, run=run, rates="1e-9, 1e-8")
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    from data_kit import load

    y = load(tmp_path, source).y_validation
    assert json.loads(done.stdout)["value"] == pytest.approx(float((y.astype(float) ** 2).mean()), rel=1e-4)
    assert 0.2 < (y.astype(float) ** 2).mean() < 0.5


@pytest.mark.gallery
@pytest.mark.slow
def test_what_was_left_out_of_a_folder_is_told_at_the_terminal(tmp_path):
    draw_classes(tmp_path / "pets", ("caf\udce9", "dog"))
    draw(tmp_path / "pets" / "dog" / "more" / "1.JFIF", 9, format="JPEG")
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("no image")
    path = study(tmp_path, "pets")
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "warning: " in said
    assert "1 of the files in the class folders are no images" in said
    assert manyfit("show", path).returncode == 0
