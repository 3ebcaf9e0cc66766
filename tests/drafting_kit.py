"""Data of many forms, as people have them, for `manyfit init`."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from data_kit import draw
from rich.console import Console
from sklearn import datasets

from search.drafting import writing
from search.drafting.draft import Draft, draft
from search.drafting.request import Request
from search.reading import studyfile
from search.views import drafted


def begin(folder: Path, source: str, *, force: bool = False, **options) -> Draft:
    """Write what `manyfit init` writes, and read the study file as `manyfit run` does."""
    done = draft(Request(source, folder, **options), force=force)
    writing.write(done.files)
    studyfile.read(done.request.study_file)
    return done


def settings_of(done: Draft) -> dict[str, Any]:
    """Return the study file that was written, as a table."""
    return tomllib.loads(done.request.study_file.read_text(encoding="utf-8"))


def shown(done: Draft) -> str:
    """Return what `manyfit init` prints."""
    text = io.StringIO()
    Console(width=400, file=text).print(drafted.table(done))
    return text.getvalue()


def iris() -> pd.DataFrame:
    """Return the irises, with the names of their species in the last column."""
    bunch = datasets.load_iris(as_frame=True)
    return bunch.data.assign(species=np.array(bunch.target_names)[bunch.target])


def wine_csv(folder: Path) -> str:
    datasets.load_wine(as_frame=True).frame.to_csv(folder / "wine.csv", index=False)
    return "wine.csv"


def diabetes_parquet(folder: Path) -> str:
    """Targets of some 200,000 show that models learn them in their units."""
    frame = datasets.load_diabetes(as_frame=True).frame
    frame.assign(target=frame.target * 1000 + 50_000).to_parquet(folder / "diabetes.parquet")
    return "diabetes.parquet"


def customers_csv(folder: Path) -> str:
    """A column of each kind, and some of no use."""
    random, rows = np.random.default_rng(0), 600
    leaves = random.random(rows) < 0.5
    words = {True: ["late", "broken", "rude"], False: ["quick", "friendly", "cheap"]}
    texts = [f"it was {random.choice(words[bool(left)])} and a thing number {i}" for i, left in enumerate(leaves)]
    age = np.where(random.random(rows) < 0.1, np.nan, random.integers(18, 80, rows))
    frame = pd.DataFrame(
        {"id": range(rows), "age": age, "city": random.choice(["Bonn", "Köln"], rows), "review": texts}
    )
    frame["signup"] = pd.to_datetime("2020-01-01") + pd.to_timedelta(random.integers(0, 900, rows), unit="D")
    frame["vip"], frame["country"], frame["fax"] = random.random(rows) < 0.3, "DE", np.nan
    frame["churn"] = np.where(leaves ^ (random.random(rows) < 0.1), "yes", "no")
    frame.to_csv(folder / "customers.csv", index=False)
    return "customers.csv"


def fraud_csv(folder: Path) -> str:
    random = np.random.default_rng(0)
    x = random.normal(size=(1500, 6))
    frame = pd.DataFrame(x, columns=list("abcdef")).assign(fraud=(x[:, 0] + x[:, 1] > 2.2).astype(int))
    frame.to_csv(folder / "fraud.csv", index=False)
    return "fraud.csv"


def power_csv(folder: Path) -> str:
    """A series in hours, in which the last value tells less than the hour of the day."""
    random, hours = np.random.default_rng(0), np.arange(900)
    day = 2 * np.pi * hours / 24
    frame = pd.DataFrame({"hour": pd.date_range("2024-01-01", periods=900, freq="h").strftime("%Y-%m-%d %H:%M")})
    frame["temperature"] = 10 + 5 * np.sin(day) + random.normal(0, 0.5, 900)
    frame["load"] = 200 + 80 * np.sin(day + 1) + random.normal(0, 5, 900)
    frame.to_csv(folder / "power.csv", index=False)
    return "power.csv"


def bytes_npz(folder: Path) -> str:
    x, y = datasets.load_digits(return_X_y=True)
    np.savez(folder / "digits.npz", x=(x * 15).astype(np.uint8).reshape(-1, 8, 8), y=y)
    return "digits.npz"


def keys_npz(folder: Path) -> str:
    x, y = datasets.load_digits(return_X_y=True)
    parts = {"X_train": x[:1200], "Y_train": y[:1200], "X_test": x[1200:], "Y_test": y[1200:], "names": np.arange(3)}
    np.savez(folder / "digits.npz", **parts)
    return "digits.npz"


def folder_of_npy(folder: Path) -> str:
    (folder / "arrays").mkdir()
    x, y = datasets.load_breast_cancer(return_X_y=True)
    np.save(folder / "arrays" / "features.npy", x)
    np.save(folder / "arrays" / "labels.npy", y)
    return "arrays"


def words_npz(folder: Path) -> str:
    """Ids of words, two of which tell the label."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 1000)
    x = random.integers(20, 400, (1000, 20))
    x[np.arange(1000), random.integers(0, 20, 1000)] = np.where(y, 3, 7)
    np.savez(folder / "reviews.npz", x=x, y=y)
    return "reviews.npz"


def waves_npz(folder: Path) -> str:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 700)
    phase = random.uniform(0, 6, (700, 1))
    x = 50 * np.sin(np.arange(60) * (0.2 + 0.15 * y[:, None]) + phase) + random.normal(0, 15, (700, 60))
    np.savez(folder / "waves.npz", x=x[..., None], y=y)
    return "waves.npz"


def labels_npz(folder: Path) -> str:
    """Several labels for each row."""
    random = np.random.default_rng(0)
    x = random.normal(size=(900, 5))
    np.savez(folder / "labels.npz", x=x, y=(x[:, :3] + random.normal(0, 0.3, (900, 3)) > 0).astype(int))
    return "labels.npz"


def autoencoder_npz(folder: Path) -> str:
    x = datasets.load_digits().images[:600] / 16
    np.savez(folder / "pictures.npz", x=x.astype(np.float32), y=x.astype(np.float32))
    return "pictures.npz"


def shapes_folder(folder: Path) -> str:
    """Images of several sizes that differ in their brightness."""
    for name, shade in (("dark", 20), ("light", 180)):
        for index in range(40):
            draw(folder / "shapes" / name / f"{index}.png", shade + index, size=(20 + index % 3, 24))
    return "shapes"


def house_function(folder: Path) -> str:
    """Several inputs and outputs, of a function that prints."""
    (folder / "house.py").write_text(HOUSE, encoding="utf-8")
    return "house.py:load"


def weighted_function(folder: Path) -> str:
    """Three classes, one of which has nearly all rows, and weights of rows."""
    (folder / "weighted.py").write_text(WEIGHTED, encoding="utf-8")
    return "weighted.py:load"


def frame_function(folder: Path) -> str:
    text = "from sklearn import datasets\n\n\ndef rows(seed):\n    return datasets.load_iris(as_frame=True).frame\n"
    (folder / "irises.py").write_text(text, encoding="utf-8")
    return "irises.py:rows"


WEIGHTED = """
import numpy as np


def load():
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 3))
    return x, np.digitize(x[:, 0], [1.3, 1.7]), random.uniform(0.1, 9, 500)
"""

HOUSE = """
import numpy as np


def load():
    print("loading")
    random = np.random.default_rng(0)
    words, size = random.integers(0, 400, (700, 10)), random.normal(0, 100, (700, 3))
    price = 100_000 + 1000 * size @ [1.0, -2.0, 0.5] + 20_000 * (words < 200).sum(axis=1)
    return {"words": words, "size": size}, {"price": price, "sold": size[:, 0] > 0}
"""

SOURCES: tuple[Callable[[Path], str], ...] = (
    wine_csv, diabetes_parquet, customers_csv, fraud_csv, power_csv, bytes_npz, keys_npz, folder_of_npy, words_npz, waves_npz,
    labels_npz, autoencoder_npz, shapes_folder, house_function, frame_function,
)  # fmt: skip
