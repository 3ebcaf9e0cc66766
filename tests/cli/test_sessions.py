"""A study is run from Python: no file is read, no terminal is there, and not even the main thread is needed."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from search.sessions.run import Outcome, run
from search.spec.study import StudyFile


@pytest.mark.slow
def test_study_runs_in_a_thread_and_tells_the_logger(tmp_path: Path, caplog):
    table = {
        "study": {"objective": "val_accuracy", "trials": 2, "epochs": 2},
        "data": {"source": "sklearn:digits", "limit": 200},
        "space": {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
        "run": {"engine": "fit"},
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
