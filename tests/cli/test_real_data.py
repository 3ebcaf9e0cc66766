"""Real images through the real command, where the shared data are."""

from __future__ import annotations

import json

import pytest
from support import SHARED, manyfit, write_study

from search.storage.records import load

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs {SHARED}")]

STUDY = """
[study]
objective = "val_accuracy"
trials = 2
epochs = 2
[data]
source = "{source}"
{data}
[model]
build = "{build}"
{model}
[space]
learning_rate = {{ low = 1e-3, high = 3e-3, log = true }}
dropout = {{ low = 0.0, high = 0.3 }}
[search]
sampler = "random"
pruner = "none"
"""


def test_mnist_is_learned_by_a_dense_network(tmp_path):
    path = write_study(
        tmp_path, STUDY.format(source=SHARED / "mnist.npz", data="limit = 6000", build="mlp", model="units = [64]")
    )
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] > 0.85
    document = json.loads(path.with_name("small.best.json").read_text())
    assert document["identity"]["data"]["fingerprint"]


@pytest.mark.gallery
def test_fashion_mnist_is_learned_by_a_convolutional_network_on_tensorflow(tmp_path):
    model = "filters = [8, 16]\nunits = 32\nbatch_norm = true"
    path = write_study(
        tmp_path, STUDY.format(source=SHARED / "fashion_mnist.npz", data="limit = 2000", build="cnn", model=model)
    )
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    curve = load(path.with_suffix(".db"), "small").trials[0].curve
    assert curve[1]["loss"] < curve[0]["loss"] < 2.3


@pytest.mark.gallery
def test_folder_of_photos_with_its_own_splits_is_searched(tmp_path):
    data = "image_size = [32, 32]\nlimit = 200"
    path = write_study(
        tmp_path, STUDY.format(source=SHARED / "cats_vs_dogs", data=data, build="cnn", model="filters = [8]\nunits = 8")
    )
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] >= 0.4
    note = json.loads(manyfit("plan", path, "--json").stdout)
    assert (note["data"]["task"], note["data"]["class_names"]) == ("binary", ["cat", "dog"])
