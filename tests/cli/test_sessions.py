"""A study is run from Python: no file is read, no terminal is there, and not even the main thread is needed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import ROOT

from search.sessions.run import Outcome, run
from search.spec.study import StudyFile


@pytest.mark.slow
def test_study_runs_in_a_thread_and_tells_the_logger(tmp_path: Path, caplog):
    table = {
        "study": {"objective": "val_accuracy", "trials": 2, "epochs": 2, "seed": 0},
        "data": {"source": "sklearn:digits", "limit": 200},
        "space": {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
        "run": {"engine": "fit", "backend": "jax"},
    }
    file = StudyFile.stored(tmp_path / "notebook.toml", table)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(file)))
    with caplog.at_level(logging.INFO, logger="manyfit"):
        thread.start()
        thread.join(timeout=120)
    (outcome,) = outcomes
    assert [trial.state for trial in outcome.stored.complete] == ["COMPLETE", "COMPLETE"]
    assert outcome.best_path.exists()
    said = [record.getMessage() for record in caplog.records if record.name == "manyfit"]
    assert any(line.startswith("fit on ") for line in said)
    assert sum(line.startswith("trial ") and line.endswith("finished") for line in said) == 2
    again = run(file)
    assert (again.ended, len(again.stored.trials)) == ((), 2)


@pytest.mark.gallery
@pytest.mark.slow
def test_example_of_the_docs_runs_as_it_stands_but_for_its_length(tmp_path: Path):
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0].replace("study.trials=8", "study.trials=2")
    shutil.copytree(ROOT / "studies", tmp_path / "studies", ignore=shutil.ignore_patterns("*.db*", "*.files", "*.log"))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, value = done.stdout.split()[:2]
    assert number in ("0", "1")
    assert 0 <= float(value) <= 1
    assert done.stdout.rstrip().endswith("digits.best.json")
