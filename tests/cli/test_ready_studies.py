"""The studies that come with the project, each in a short form: few rows, few epochs, and scikit-learn's data where it fits."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support import ROOT, in_jax, manyfit, settings

from search.reading import studyfile
from search.storage import records

ALL = sorted(path.relative_to(ROOT / "studies").as_posix() for path in (ROOT / "studies").rglob("*.toml"))
SHORT = ["data.limit=120", "study.epochs=1", "study.trials=2"]


def in_short(study, folder):
    """Return what makes a study short, with data and files that are made here."""
    group = study.partition("/")[0]
    digits = f"data.source={images(folder)}"
    short = [*SHORT, f"run.storage={folder / 'short.db'}"]
    if group == "cats-and-dogs":
        return [*short, f"data.source={photos(folder)}", "data.image_size=[64, 64]"]
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


def built(studies):
    """Build and train the models of two configs of each study, of a few rows; return the losses."""
    from search import data
    from search.engines import training
    from search.reading import studyfile

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
            rows = slice(0, 32)
            history = model.fit(loaded.x_train[rows], loaded.y_train[rows], epochs=2, verbose=0)
            losses[name].append(history.history["loss"][-1])
    return losses


@pytest.mark.gallery
def test_every_study_reads_its_file_and_trains(tmp_path):
    studies = {
        study: (str(ROOT / "studies" / study), in_short(study, tmp_path)) for study in ALL if study != "digits.toml"
    }
    losses = in_jax(built, studies)
    assert set(losses) == set(studies)
    for study, found in losses.items():
        assert np.isfinite(found).all(), study


@pytest.mark.parametrize(
    "study",
    [
        *(pytest.param(study, marks=pytest.mark.gallery) for study in ALL if study != "digits.toml"),
    ],
)
def test_study_runs_in_a_short_form(study, tmp_path):
    done = manyfit("run", ROOT / "studies" / study, *settings(in_short(study, tmp_path)))
    assert done.returncode == 0, done.stderr
    (name,) = records.names(tmp_path / "short.db")
    stored = records.load(tmp_path / "short.db", name)
    assert [trial.state for trial in stored.trials] in (["COMPLETE"], ["COMPLETE"] * 2), stored.trials


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
