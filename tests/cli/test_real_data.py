"""Real images through the real command, where the shared data are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import SHARED, in_keras, manyfit, write_study

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


@pytest.mark.gallery
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


def value_of_the_file(path, folder):
    import keras
    import numpy as np
    from PIL import Image, ImageOps

    model, right, count = keras.models.load_model(path), 0, 0
    for label, name in enumerate(("cat", "dog")):
        for file in sorted((Path(folder) / "validation" / name).iterdir()):
            image = ImageOps.exif_transpose(Image.open(file)).convert("RGB").resize((24, 32), Image.Resampling.BILINEAR)
            output = model.predict(np.asarray(image)[None], verbose=0)[0, 0]
            right, count = right + int((output > 0) == bool(label)), count + 1
    return right / count


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with some of the shared photos in photos/."""
    base = tmp_path_factory.mktemp("lazy")
    for split, count in (("train", 60), ("validation", 20)):
        for kind in ("cat", "dog"):
            folder = base / "photos" / split / kind
            folder.mkdir(parents=True)
            for file in sorted((SHARED / "cats_vs_dogs" / split / kind).iterdir())[:count]:
                shutil.copy(file, folder)
    return base


def lazily(folder, name, *, lazy, engine="fit", backend="jax"):
    """Search a study of photos; return its path and what the command said."""
    data = f"image_size = [32, 24]\ntest = 0\nlazy = {str(lazy).lower()}"
    study = STUDY.format(source="photos", data=data, build="mlp", model="units = [8]")
    path = write_study(folder, f'{study}[run]\nengine = "{engine}"\nbackend = "{backend}"', name=name)
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    return path, done.stderr


def losses(path):
    trials = load(path.with_suffix(".db"), path.stem).trials
    return [epoch[metric] for trial in trials for epoch in trial.curve for metric in ("loss", "val_loss")]


@pytest.mark.gallery
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_photos_that_stay_in_their_files_train_as_those_in_memory(photos, backend):
    kept, _ = lazily(photos, f"kept-{backend}", lazy=False, backend=backend)
    lazy, _ = lazily(photos, f"lazy-{backend}", lazy=True, backend=backend)
    assert losses(lazy) == pytest.approx(losses(kept), rel=1e-5)


@pytest.mark.gallery
def test_study_of_photos_in_their_files_is_trained_by_fit_and_its_model_takes_bytes(photos):
    path, said = lazily(photos, "auto", lazy=True, engine="auto")
    assert "its images are read as they are needed (data.lazy), and lanes need all rows on the device" in said
    trials = load(path.with_suffix(".db"), "auto").trials
    best = max(epoch["val_accuracy"] for trial in trials for epoch in trial.curve)
    assert manyfit("export", path, "--model", photos / "best.keras").returncode == 0
    told = in_keras(value_of_the_file, str(photos / "best.keras"), str(photos / "photos"))
    assert told == pytest.approx(best, abs=1e-6)
    refused = manyfit("run", path, "--name", "other", "--set", "run.engine=lanes")
    assert refused.returncode == 2
    assert "run.engine: lanes can't train this model: its images are read as they are needed" in refused.stderr
