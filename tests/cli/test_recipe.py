"""docs/recipe.md, from the check to the test rows, run as it stands."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from support import ROOT, manyfit

from search.storage import records

PAGE = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")


@pytest.mark.gallery
def test_recipe_leads_from_data_to_a_model(tmp_path):
    (study,) = re.findall(r"```toml title=\"digits.toml\"\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "digits.toml").write_text(study)
    lines = [line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 10
    said = {}
    for line in lines:
        _, command, *words = shlex.split(line.removeprefix("$ "))
        done = manyfit(command, *words, cwd=tmp_path, timeout=600)
        assert done.returncode == 0, (line, done.stderr)
        assert "Traceback" not in done.stderr
        said[command] = done.stdout + done.stderr
    assert "0 stop" in said["check"]
    for line in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[0].splitlines():
        name = line.split(":")[0]
        assert name in said["check"], name
    stored = records.load(tmp_path / "digits.db", "digits")
    best = json.loads((tmp_path / "digits.best.json").read_text())
    assert best["start"]["gain"] > 0.01
    assert stored.complete[0].value > 0.97
    for name in (
        "digits.check.html",
        "digits.report.html",
        "ensemble.keras",
        "final.keras",
        "final.md",
        "predictions.csv",
    ):
        assert (tmp_path / name).stat().st_size > 1000, name
    assert "the test rows were evaluated once in this study" in said["evaluate"]
