"""The studies that come with the project, each in a short form: few rows, few epochs, and scikit-learn's data where it fits."""

from __future__ import annotations

import io
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from support import ROOT, in_jax, manyfit, settings

from search.errors import StudyFileError
from search.reading import studyfile
from search.storage import records

ALL = sorted(path.relative_to(ROOT / "studies").as_posix() for path in (ROOT / "studies").rglob("*.toml"))
# Their data come with scikit-learn, are made beside them, or lie there.
MADE_HERE = ("imbalanced", "sequences", "tables")
# The cheapest ones to train, which every run of the tests searches.
QUICK = ("imbalanced/rare.toml", "lab/2-penalties.toml", "tables/diabetes.toml", "tables/flats.toml")
SHORT = ["data.limit=120", "study.epochs=1", "study.trials=2"]


def in_short(study, folder):
    """Return what makes a study short, with data and files that are made here."""
    group = study.partition("/")[0]
    digits = f"data.source={images(folder)}"
    short = [*SHORT, f"run.storage={folder / 'short.db'}"]
    if group == "cats-and-dogs":
        return [*short, f"data.source={photos(folder)}", "data.image_size=[64, 64]"]
    if group == "cifar10":
        # As wide and deep as the study has them, they compile for minutes in lanes on a CPU.
        narrow = ["model.filters=[4, 8]", "model.blocks=1"] if "resnet" in study else ["model.filters=[4]"]
        return [*short, digits, *narrow]
    if group in MADE_HERE:
        return [*short, "study.repeats=1"]
    if group == "transfer":
        # The functions of the data read a file of Fashion-MNIST, or download it.
        short += [digits]
        return short if study.endswith("pretrain.toml") else [*short, f"model.backbone={backbone(folder)}"]
    return [*short, digits]


def images(folder):
    """scikit-learn's digits as bytes of images, as the study's own data come."""
    path = folder / "digits.npz"
    if not path.exists():
        digits = load_digits()
        np.savez(path, x=(digits.images * 15).astype(np.uint8), y=digits.target)
    return path


def photos(folder):
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for kind in ("cat", "dog"):
            (folder / "photos" / split / kind).mkdir(parents=True, exist_ok=True)
            for number in range(12):
                pixels = rng.integers(0, 256, (70, 70, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / kind / f"{number}.png")
    return folder / "photos"


def backbone(folder):
    path = folder / "backbone.keras"
    if not path.exists():
        in_jax(make_backbone, str(path))
    return path


def make_backbone(path):
    import keras

    from models.transfer import pretrain
    from search.data import DataInfo

    model = pretrain({"filters": [4, 8], "features": 16}, DataInfo((8, 8), "classification", 10, 10))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(path)


def searched(studies):
    """Search each study by fit in this process; return the state and the value of each trial."""
    from support import record

    from search import data
    from search.core import loop
    from search.engines.fit import FitEngine
    from search.engines.training import Trainer
    from search.storage.store import Store
    from search.workers.inprocess import InProcess

    found = {}
    for name, (path, overrides) in studies.items():
        file = studyfile.read(Path(path), overrides)
        trainer = Trainer.load(file.settings, file.base, data.load(file.settings.data, file.base, 0))
        loop.run(file, record(file), Store, InProcess(FitEngine(trainer)))
        found[name] = [(trial.state, trial.value) for trial in records.load(file.storage, file.name).trials]
    return found


def built(studies, folder):
    """Build and train the models of two configs of each study, of a few rows; return the losses.

    Each is saved, and Keras alone opens it again.
    """
    import keras

    from search import data
    from search.engines import training

    losses = {}
    for name, (path, overrides) in studies.items():
        file = studyfile.read(Path(path), overrides)
        loaded = data.load(file.settings.data, file.base, 0)
        trainer = training.Trainer.load(file.settings, file.base, loaded)
        losses[name] = []
        starts = [file.space.check(start) for start in file.settings.search.start[:2]] or [{}]
        for start in starts:
            params = {}
            for key, parameter in file.space.items():
                if file.space.is_active(key, params):
                    params[key] = start.get(key, parameter.middle())
            model = trainer.model({**file.fixed(), **file.space.config(params)}, seed=0)
            x = loaded.x_train[:32]
            history = model.fit(x, loaded.y_train[:32], epochs=2, verbose=0)
            losses[name].append(history.history["loss"][-1])
            model.save(Path(folder) / "model.keras")
            again = keras.models.load_model(Path(folder) / "model.keras", compile=False)
            np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
    return losses


def test_quick_studies_are_searched_by_fit(tmp_path):
    studies = {
        study: (str(ROOT / "studies" / study), [*in_short(study, tmp_path), "study.trials=1"]) for study in QUICK
    }
    found = in_jax(searched, studies)
    assert set(found) == set(QUICK)
    for study, trials in found.items():
        ((state, value),) = trials
        assert state == "COMPLETE", study
        assert np.isfinite(value), study


@pytest.mark.gallery
def test_every_study_reads_its_file_and_trains(tmp_path):
    studies = {
        study: (str(ROOT / "studies" / study), in_short(study, tmp_path)) for study in ALL if study != "digits.toml"
    }
    losses = in_jax(built, studies, str(tmp_path))
    assert set(losses) == set(studies)
    for study, found in losses.items():
        assert np.isfinite(found).all(), study


@pytest.mark.gallery
@pytest.mark.parametrize(
    ("study", "engine"),
    [
        (study, engine)
        for study in ALL
        if study != "digits.toml"
        for engine in (("lanes", "fit") if study.partition("/")[0] in (*MADE_HERE, "cifar10") else ("auto",))
    ],
)
def test_study_runs_in_a_short_form(study, engine, tmp_path):
    words = [*in_short(study, tmp_path), f"run.engine={engine}"]
    done = manyfit("run", ROOT / "studies" / study, *settings(words), timeout=600)
    assert done.returncode == 0, done.stderr
    (name,) = records.names(tmp_path / "short.db")
    stored = records.load(tmp_path / "short.db", name)
    assert [trial.state for trial in stored.trials] in (["COMPLETE"], ["COMPLETE"] * 2), stored.trials


def test_table_of_flats_is_what_its_script_makes():
    flats = runpy.run_path(str(ROOT / "studies" / "tables" / "flats.py"))
    made = pd.read_csv(io.StringIO(flats["make"]().to_csv(index=False)))
    pd.testing.assert_frame_equal(made, pd.read_csv(ROOT / "studies" / "tables" / "flats.csv"))


@pytest.mark.parametrize("source", ["cifar10.npz", "cats_vs_dogs"])
def test_study_whose_data_are_absent_says_where_it_looked(source, tmp_path):
    with pytest.raises(StudyFileError, match="no such") as refused:
        studyfile.read(ROOT / "studies" / "cifar10" / "convnet.toml", [f"data.source={tmp_path / source}"])
    assert str(tmp_path / source) in str(refused.value)


@pytest.mark.gallery
def test_study_says_where_a_backbone_is_missing(tmp_path):
    where = ["model.backbone=gone.keras", f"data.source={images(tmp_path)}", f"run.storage={tmp_path / 'short.db'}"]
    done = manyfit("run", ROOT / "studies" / "transfer" / "10-examples.toml", *settings(where))
    assert done.returncode == 1, done.stderr
    assert "gone.keras is not there; studies/transfer/pretrain.toml trains one" in done.stderr


@pytest.mark.gallery
def test_coarse_study_of_dropout_leads_to_a_fine_one(tmp_path):
    shutil.copytree(
        ROOT / "studies" / "dropout",
        tmp_path / "studies" / "dropout",
        ignore=lambda _, names: [n for n in names if not n.endswith(".toml")],
    )
    (tmp_path / "models").symlink_to(ROOT / "models")
    coarse, fine = (tmp_path / "studies" / "dropout" / f"{name}.toml" for name in ("coarse", "fine"))
    short = ["data.limit=300", f"data.source={images(tmp_path)}", "study.epochs=2", "model.units=[16,16]"]
    for words in (
        ["run", coarse, *settings([*short, "study.trials=12"])],
        ["refine", coarse, "-o", fine],
        ["run", fine, "--sampler", "bayes", "--pruner", "halving", "--trials", 4, *settings(["study.epochs=3"])],
    ):
        done = manyfit(*words)
        assert done.returncode == 0, done.stderr
    first = studyfile.read(fine).settings.search.start[0]
    trials = records.load(coarse.with_suffix(".db"), "coarse").complete
    assert first.items() <= trials[0].params.items()
    assert records.load(fine.with_suffix(".db"), "fine").trials[0].params.items() >= first.items()


def test_every_study_says_what_its_builder_reads(tmp_path):
    """The files themselves: every key is known, and every parameter is one that its builder reads."""
    for study in ALL:
        (tmp_path / "backbone.keras").touch()
        file = studyfile.read(ROOT / "studies" / study, in_short(study, tmp_path))
        assert file.space


def heads(path):
    from models.transfer import build
    from search.data import DataInfo

    info = DataInfo((8, 8), "classification", 10, 10, train_rows=32)
    fixed = {"backbone": path, "batch_size": 16, "epochs": 4}
    models = [build({**fixed, "kept": kept, "frozen": 1, "pretrained": kept != 2}, info) for kept in (1, 2, 3)]
    return [
        (
            model.get_layer("backbone").output.shape[1],
            sum(bool(layer.weights) for layer in model.get_layer("backbone").layers),
        )
        for model in models
    ]


@pytest.mark.gallery
def test_the_head_stands_on_the_first_layers_of_a_backbone(tmp_path):
    # Of 8x8 images: 4 filters pooled to 4x4, 8 filters pooled to 2x2, 16 features.
    assert in_jax(heads, str(backbone(tmp_path))) == [[64, 1], [32, 2], [16, 3]]


@pytest.mark.gallery
def test_race_of_samplers_is_drawn(tmp_path):
    pytest.importorskip("kaleido")
    race = [sys.executable, ROOT / "studies" / "samplers" / "race.py", "--seeds", "1", "-o", tmp_path]
    short = settings(["study.trials=3", "study.epochs=1"])
    done = subprocess.run([*race, *short], capture_output=True, text=True, cwd=ROOT)
    if "Chrome" in done.stderr:
        pytest.skip("needs a Chrome or Chromium")
    assert done.returncode == 0, done.stderr
    assert [row.split()[0] for row in done.stdout.splitlines()[1:]] == ["grid", "random", "bayes"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"race-best.png", "race-tried.png"}
