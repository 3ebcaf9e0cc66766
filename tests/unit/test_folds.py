"""Folds: which rows train and judge in each, that none is prepared by what judges it, and what trials and files say of them."""

from __future__ import annotations

import json
import math
import zlib
from statistics import mean, stdev

import numpy as np
import pytest
from data_kit import draw_classes, write_function
from support import curve, cut_off, replay, replay_file, table, write_study

from search import data
from search.errors import DataError, StudyFileError, UsageError
from search.reading import studyfile
from search.sessions.ensembling import ensemble
from search.sessions.reporter import LOGGING
from search.sessions.retraining import Recipe, retrain
from search.spec.identity import declared
from search.spec.settings import DataSection
from search.trials.objective import Objective
from search.views import export, trial_frames


def load(base, source, folds=5, use="study", **section):
    return data.load(DataSection(source=source, **section), base, 0, use, folds)


def test_each_row_judges_once_and_trains_in_the_other_folds(tmp_path):
    loaded = load(tmp_path, "sklearn:digits", 5)
    plain = load(tmp_path, "sklearn:digits", 1)
    assert len(loaded.folds) == 5
    pool = {*np.concatenate(loaded.folds[0].rows).tolist()}
    assert len(pool) == plain.info.train_rows + plain.info.validation_rows
    judged = [set(fold.rows[1].tolist()) for fold in loaded.folds]
    for fold, rows in zip(loaded.folds, judged, strict=True):
        assert {*fold.rows[0].tolist()} == pool - rows
        assert len(fold.x_train) == len(fold.rows[0])
        assert (fold.info.test_rows, fold.info.validation_rows) == (plain.info.test_rows, len(rows))
        shares = np.bincount(fold.y_validation.reshape(-1)) / len(rows)
        assert shares == pytest.approx(np.bincount(loaded.folds[0].y_train.reshape(-1)) / len(loaded.x_train), abs=0.01)
    assert sum(map(len, judged)) == len(set.union(*judged)) == 5 * (len(pool) // 5)
    assert loaded.x_train is loaded.folds[0].x_train


def test_rows_of_a_regression_judge_once_too(tmp_path):
    loaded = load(tmp_path, "sklearn:diabetes", 4, test=0.0)
    judged = np.concatenate([fold.rows[1] for fold in loaded.folds])
    assert len(judged) == len(set(judged.tolist())) == 4 * (442 // 4)
    assert not np.array_equal(judged, np.sort(judged))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_groups_stay_whole(tmp_path, task):
    source = write_function(
        tmp_path,
        """
        i = np.arange(90)
        return {"x_train": i[:, None] * 1.0, "y_train": i % 2, "person_train": i // 6}
        """,
        name=f"grouped_{task}",
    )
    loaded = load(tmp_path, source, 3, group="person", test=0.0, task="binary" if task == "classification" else task)
    assert sorted(np.concatenate([fold.rows[1] for fold in loaded.folds]).tolist()) == list(range(90))
    for fold in loaded.folds:
        assert not {*(fold.rows[0] // 6).tolist()} & {*(fold.rows[1] // 6).tolist()}


def test_groups_that_leave_a_fold_empty_are_refused(tmp_path):
    source = write_function(
        tmp_path,
        """
        x = np.arange(9)[:, None] * 1.0
        group = np.array([0, 1, 2, 3, 3, 3, 3, 2, 1])
        return {"x_train": x, "y_train": np.array([1, 1, 0, 1, 1, 1, 0, 0, 1]), "group_train": group}
        """,
        name="few_groups",
    )
    with pytest.raises(DataError, match="its 4 groups leave no rows that judge in one of 4 folds"):
        load(tmp_path, source, 4, group="group", test=0.0)
    assert len(load(tmp_path, source, 2, group="group", test=0.0).folds) == 2


def test_each_fold_is_scaled_by_its_own_training_rows(tmp_path):
    plain = load(tmp_path, "sklearn:wine", 1, scale="none", test=0.0, validation=0.1)
    given = np.concatenate([plain.x_train, plain.x_validation])
    for fold in load(tmp_path, "sklearn:wine", 3, scale="standard", test=0.0).folds:
        train, judged = fold.x_train, fold.x_validation
        assert np.abs(train.mean(axis=0)).max() < 1e-5
        assert train.std(axis=0) == pytest.approx(np.ones(13), abs=1e-4)
        assert np.abs(judged.mean(axis=0)).max() > 1e-2
        assert fold.scaling.mean != pytest.approx(given.mean(axis=0), rel=1e-6)
        back = fold.scaling.mean + fold.scaling.spread * np.concatenate([train, judged])
        assert np.sort(back, axis=0) == pytest.approx(np.sort(given, axis=0), rel=1e-4)


def test_vocabulary_and_categories_are_those_of_the_training_rows(tmp_path):
    texts = write_function(
        tmp_path,
        """
        words = np.array([f"word{i} common" for i in range(30)], object)
        return {"x_train": words, "y_train": np.arange(30) % 2}
        """,
        name="texts",
    )
    for fold in load(tmp_path, texts, 3, test=0.0).folds:
        assert fold.info.vocabulary_size == 2 + 1 + 20  # padding and unknown, "common", and a word of each training row
        assert set(fold.x_validation[:, 0].tolist()) == {1}  # its own words are unknown
    lines = [f"c{i % 6},p{i % 6},{i},{'dog' if i // 6 % 2 else 'cat'}" for i in range(60)]
    (tmp_path / "d.csv").write_text("\n".join(["city,person,size,kind", *lines]))
    columns = {"category": ("city",)}
    for fold in load(tmp_path, "d.csv", 3, target="kind", test=0.0, group="person", columns=columns).folds:
        size, city = fold.x_train[:, 0], fold.x_validation[:, 1:]
        assert len({row % 6 for row in fold.rows[1].tolist()}) == 2
        assert len(np.unique(city, axis=0)) == 1  # no training row is of these two cities
        assert size.mean() == pytest.approx(0, abs=1e-5)


def test_fingerprint_is_of_all_folds_and_the_same_for_every_use(tmp_path):
    prints = {load(tmp_path, "sklearn:wine", 3, use).fingerprint for use in ("study", "train", "test", "full")}
    assert len(prints) == 1
    assert load(tmp_path, "sklearn:wine", 4).fingerprint not in prints
    full = load(tmp_path, "sklearn:wine", 3, "full")
    assert (full.folds, len(full.x_train)) == ((), full.info.train_rows)
    tests = [fold.x_validation for fold in load(tmp_path, "sklearn:wine", 3, "test").folds]
    assert np.array_equal(tests[0], tests[1])


SERIES = """
i = np.arange(60)
return {"x_train": i[:, None] * 1.0, "y_train": i % 2, "day_train": i}
"""


@pytest.mark.parametrize(
    ("body", "section", "text"),
    [
        (SERIES, {"order": "day"}, "its rows are in order of time"),
        (SERIES.replace(', "day_train": i', ""), {"window": 4}, "its rows are in order of time"),
        (
            SERIES.replace(', "day_train": i', ', "x_validation": i[:9, None] * 1.0, "y_validation": i[:9] % 2'),
            {},
            "of its own",
        ),
        (SERIES.replace('": i}', '": i // 30}'), {"group": "day", "test": 0.0}, "2 groups are too few for 3 folds"),
        (
            SERIES.replace(', "day_train": i', "").replace("i % 2", "(i == 7) | (i == 8)"),
            {"test": 0.0},
            "has 2 of the 60 rows, and needs 3, one for each",
        ),
    ],
)
def test_data_whose_rows_can_not_judge_by_turns_are_refused(tmp_path, body, section, text):
    source = write_function(tmp_path, body, name=f"refused_{zlib.crc32((body + text).encode())}")
    with pytest.raises(DataError) as caught:
        load(tmp_path, source, 3, **section)
    assert text in str(caught.value)


def test_lazy_images_are_refused(tmp_path):
    draw_classes(tmp_path / "images")
    assert len(load(tmp_path, "images", 3).folds) == 3
    with pytest.raises(DataError, match="lazy = true reads training images"):
        load(tmp_path, "images", 3, lazy=True)


def test_folds_and_repeats_are_not_combined(tmp_path):
    with pytest.raises(StudyFileError, match="repeats = 2 and folds = 3; keep one of them"):
        replay_file(tmp_path, study__folds=3, study__repeats=2)
    with pytest.raises(StudyFileError, match="did you mean 'folds'"):
        studyfile.read(write_study(tmp_path), ["study.n_splits=3"])


def noisy(assignment, epoch):
    shift = assignment.member.replica / 10
    return {name: value + shift for name, value in curve(assignment, epoch).items()}


def test_trial_is_the_mean_of_its_folds_and_keeps_their_standard_error(tmp_path):
    file = replay_file(tmp_path, study__folds=4, study__trials=8)
    assert declared(file)["folds"] == 4
    assert "folds" not in declared(replay_file(tmp_path))
    stored = replay(file, noisy, lanes=8)
    best = stored.complete[0]
    values = [one.curve[best.best_epoch - 1]["val_loss"] for one in best.trainings]
    assert len(values) == 4
    assert best.value == pytest.approx(mean(values))
    assert Objective.of(file).standard_error(best) == pytest.approx(stdev(values) / math.sqrt(4))
    config = json.loads(export.to_json(export.best(stored)))["configs"][0]
    assert [one["value"] for one in config["repeats"]] == values
    assert any(trial.state == "PRUNED" for trial in stored.trials)
    assert {"trial", "fold", "epoch"} <= {*trial_frames.curves(stored).columns}


def test_config_of_folds_is_trained_again_on_all_rows_only_and_not_averaged(tmp_path):
    stored = replay(replay_file(tmp_path, study__folds=3, study__trials=2, search__pruner="none"), noisy, lanes=3)
    recipe = Recipe.of_study(stored, 1)
    for mode in ("again", "long"):
        with pytest.raises(UsageError, match=r"judges by 3 folds.*use --full, which trains on the rows of all folds"):
            retrain(recipe, tmp_path / "model.keras", LOGGING, mode)
    with pytest.raises(UsageError, match="judges by 3 folds, whose models are scaled by different rows"):
        ensemble(stored, 2, tmp_path / "model.keras", LOGGING)


def test_interrupted_folds_go_on_to_the_same_table(tmp_path):
    tables = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        file = replay_file(tmp_path / name, study__folds=3, study__trials=6, search__sampler="random")
        if name == "cut":
            cut_off(file, 5, noisy)
        replay(file, noisy, lanes=3)
        tables.append(table(file.storage, file.name))
    assert tables[0] == tables[1]
