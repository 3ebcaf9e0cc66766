"""The examples of docs/data.md on tables, splits, series and images are sources that load."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
from data_kit import draw
from support import ROOT

from search import data
from search.spec.settings import DataSection


def example(heading: str, folder: Path) -> data.Data:
    """Load the data that the first example below a heading names."""
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    section = tomllib.loads(text.split("```toml\n")[1].split("```")[0])["data"]
    return data.load(DataSection(**section), folder, section.get("seed", 0))


def test_customers_are_encoded(tmp_path):
    random = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=200).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"id": range(200), "zip": random.choice(["01067", "10115"], 200), "signup": days})
    frame["churn"] = random.choice(["no", "yes"], 200)
    frame.to_csv(tmp_path / "customers.csv", index=False)
    loaded = example("Tables", tmp_path)
    assert loaded.kinds == {"zip": "category", "signup": "date"}
    assert loaded.encoding.features[-2:] == ("zip = 01067", "zip = 10115")


def test_visits_are_split_by_patient(tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"patient": np.arange(400) // 4, "age": random.normal(size=400)})
    frame["readmitted"] = random.integers(0, 2, 400)
    frame.to_csv(tmp_path / "visits.csv", index=False)
    info = example("Splits", tmp_path).info
    assert (info.train_rows, info.validation_rows, info.test_rows) == (280, 60, 60)


def test_power_is_foretold_from_windows_of_a_day(tmp_path):
    hours = pd.date_range("2024-03-01", periods=600, freq="h")
    frame = pd.DataFrame({"hour": hours.strftime("%Y-%m-%dT%H:%M"), "temperature": np.arange(600) % 24})
    frame["load"] = frame.temperature * 2.5
    frame.to_csv(tmp_path / "power.csv", index=False)
    loaded = example("Series", tmp_path)
    assert (loaded.info.input_shape, loaded.info.train_rows) == ((24, 2), 480 - 24)
    assert loaded.warnings == ()


def test_photos_are_resized(tmp_path):
    for name in ("cat", "dog"):
        for index in range(12):
            draw(tmp_path / "photos" / name / f"{index}.jpg", 9 * index, size=(20 + index, 15))
    assert example("Images", tmp_path).info.input_shape == (96, 128, 3)
