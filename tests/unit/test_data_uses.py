"""The rows of a study are used in other ways when its search is over: only the rows differ, never splits or scaling."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from data_kit import write_function
from PIL import Image

from search import data
from search.errors import DataError
from search.spec.settings import DataSection

USES = ("study", "train", "test", "full")


def loaded(base, source, **section):
    """Load a source for each use."""
    return [data.load(DataSection(source=source, **section), base, 0, use) for use in USES]


def arrays(folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) + 5
    np.savez(folder / "d.npz", x=x, y=np.arange(60) % 3, w=rng.uniform(1, 2, 60))
    return x


def test_rows_of_every_use_are_those_of_the_split_and_scaled_as_in_the_study(tmp_path):
    x = arrays(tmp_path)
    study, train, test, full = loaded(tmp_path, "d.npz", scale="standard", test=0.2, validation=0.2)
    assert len({one.fingerprint for one in (study, train, test, full)}) == 1
    np.testing.assert_array_equal(train.x_validation, study.x_train)
    np.testing.assert_array_equal(train.w_validation, study.w_train)
    np.testing.assert_array_equal(test.x_train, study.x_train)
    # The rest of the rows, and none of the others.
    others = {row.tobytes() for row in np.concatenate([train.raw.x_validation, study.raw.x_validation])}
    rest = [row for row in x if row.tobytes() not in others]
    assert sorted(map(tuple, test.raw.x_validation)) == sorted(map(tuple, rest))
    scaled = (test.raw.x_validation - study.scaling.mean) / study.scaling.spread
    np.testing.assert_allclose(test.x_validation, scaled, rtol=1e-6)
    np.testing.assert_array_equal(full.x_train, np.concatenate([study.x_train, study.x_validation]))
    np.testing.assert_array_equal(full.y_train, np.concatenate([study.y_train, study.y_validation]))
    np.testing.assert_array_equal(full.w_train, np.concatenate([study.w_train, study.w_validation]))
    assert (study.info.train_rows, full.info.train_rows) == (36, 48)


def test_windows_images_in_files_and_several_inputs_have_test_rows(tmp_path):
    pd.DataFrame({"heat": np.arange(90.0), "load": np.arange(90.0) % 7}).to_csv(tmp_path / "s.csv", index=False)
    study, _, test, _ = loaded(tmp_path, "s.csv", target="load", window=4, test=0.2, validation=0.2)
    assert len(test.x_validation) == study.info.test_rows > 5
    np.testing.assert_array_equal(test.raw.x_validation[:, -1, 0], np.arange(len(test.y_validation)) + 75)
    for number in range(40):
        folder = tmp_path / "pets" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5), number * 6, np.uint8)).save(folder / f"{number}.png")
    lazy, kept = (loaded(tmp_path, "pets", lazy=lazy, test=0.2, validation=0.2) for lazy in (True, False))
    for one, other in zip(lazy, kept, strict=True):
        np.testing.assert_array_equal(one.x_validation, other.x_validation)
        np.testing.assert_array_equal(one.raw.x_validation, other.raw.x_validation)
    np.testing.assert_array_equal(lazy[3].x_train, kept[3].x_train)
    source = write_function(
        tmp_path,
        """
        i = np.arange(50)
        return {"a": pd.DataFrame({"kind": list("xy") * 25, "size": i}), "b": i / 7.0}, i % 2
        """,
    )
    study, _, test, full = loaded(tmp_path, source, test=0.2, validation=0.2)
    assert len(test.raw.x_validation["kind"]) == len(test.x_validation["b"]) == study.info.test_rows == 10
    assert len(full.x_train["a"]) == 40


def test_rows_that_are_not_there_are_refused(tmp_path):
    arrays(tmp_path)
    with pytest.raises(DataError, match=r"there are no test rows: .*, and test = 0 under \[data\]"):
        data.load(DataSection(source="d.npz", test=0.0), tmp_path, 0, "test")
    source = write_function(
        tmp_path,
        """
        x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
        batches = lambda: iter([(x, y)])
        return {"train": batches, "steps": 1, "validation": batches, "validation_steps": 1}
        """,
    )
    for use in ("train", "full"):
        with pytest.raises(DataError, match="the training rows come in batches"):
            data.load(DataSection(source=source), tmp_path, 0, use)
