"""Verdicts on MNIST from the shared folder: each broken form triggers one, the sound rows none."""

from __future__ import annotations

import pytest
from data_kit import load, write_function
from support import SHARED

from search.checking import checker, data_checks
from search.spec.finding import Finding
from search.spec.settings import DataSection, Settings

pytestmark = [
    pytest.mark.gallery,
    pytest.mark.skipif(not (SHARED / "mnist.npz").exists(), reason="MNIST is not there"),
]
BODY = """
rng = np.random.default_rng(0)
with np.load({path!r}) as file:
    x, y, x_test, y_test = (file[name][:3000] for name in ("x_train", "y_train", "x_test", "y_test"))
x_test, y_test = x_test[:500], y_test[:500]
{change}
return {{"x": x, "y": y, "x_test": x_test, "y_test": y_test}}
"""
BROKEN = {
    "duplicates": "x[1000:] = x[:2000]; y[1000:] = y[:2000]",
    "shared rows": "x_test = x[:500]; y_test = y[:500]",
    "targets": "keep = (y != 7) | (np.arange(len(y)) % 30 == 0); x, y = x[keep], y[keep]",
    "baselines": "y = rng.permutation(y)",
    "likely wrong labels": "some = rng.permutation(3000)[:200]; y = y.copy(); y[some] = (y[some] + 3) % 10",
    "outliers": "x, x_test = (np.float32(rows / 255) for rows in (x, x_test)); x[50:60] = 9 * rng.normal(size=(10, 28, 28))",
    "constant features": "x = x.copy(); x[:, 8:] = 0",
}


def levels(folder, source: str, check: str) -> set[str]:
    loaded = load(folder, source)
    test = checker._test_rows(Settings(data=DataSection(source=source)), folder, loaded)
    checks = data_checks.checks(test)
    found = checks["inputs" if check == "constant features" else check](loaded)
    return {one.level for one in found if isinstance(one, Finding) and one.name == check}


@pytest.mark.parametrize("check", BROKEN)
def test_broken_mnist_triggers_a_verdict_and_the_sound_one_does_not(tmp_path, check):
    path = str(SHARED / "mnist.npz")
    name = check.replace(" ", "_")
    broken = write_function(tmp_path, BODY.format(path=path, change=BROKEN[check]), name=f"broken_{name}")
    sound = write_function(tmp_path, BODY.format(path=path, change=""), name=f"sound_{name}")
    assert "look" in levels(tmp_path, broken, check)
    assert levels(tmp_path, sound, check) == {"ok"}
