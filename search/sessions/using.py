"""Uses a model file in a process of its own, without its study: predicts new rows, draws its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from search.engines import devices
from search.errors import UsageError
from search.log import StudyLog
from search.sessions.output import whole
from search.sessions.reporter import Reporter
from search.signals import signals
from search.spec import model_file
from search.spec.model_file import ModelNotes
from search.trials.events import Noted
from search.trials.predicted import Predicted
from search.workers import asking
from search.workers.local import Processes
from search.workers.messages import UseModel

# How long to wait for the worker before signals are handled.


def predict(model: Path, source: str, output: Path, reporter: Reporter, code: Sequence[Path] = ()) -> Predicted:
    """Predict new rows by a model file, and write the table `output`, whole or not at all.

    `code`: files with layers of the user's own.

    Raises UsageError for a model that manyfit did not write or can't load, DataError for rows that it does not take.
    """
    notes = model_file.read(model)
    with whole(output) as partial:
        options = {"source": source, "base": str(Path.cwd()), "output": str(partial), "code": _files(code)}
        order = UseModel("predict", str(model.absolute()), options)
        detail = _asked(order, notes, reporter, f"predicting {source}").detail
    return Predicted(detail["rows"], tuple(detail["columns"]), detail["outputs"], tuple(detail["lines"]))


def plot(model: Path, output: Path | None, reporter: Reporter, code: Sequence[Path] = ()) -> Mapping[str, Any]:
    """Draw the layers of a model file into `output`, if Graphviz is there; return its layers as well.

    The result has `summary` (a text), `layers`, `parameters`, and `why` there is no picture, "" if there is one. Raises
    UsageError for a model that manyfit did not write or can't load.
    """
    notes = model_file.read(model)
    with nullcontext() if output is None else whole(output, may_lack=True) as partial:
        options = {"output": str(partial or ""), "code": _files(code)}
        return _asked(UseModel("plot", str(model.absolute()), options), notes, reporter, f"drawing {model}").detail


def _files(code: Sequence[Path]) -> list[str]:
    for file in code:
        if file.suffix != ".py" or not file.is_file():
            raise UsageError(f"--code: names a Python file with layers of yours; received {file}")
    return [str(file.absolute()) for file in code]


def _asked(order: UseModel, notes: ModelNotes, reporter: Reporter, what: str) -> Noted:
    """Let a worker do an order, on the backend that trained the model if it is there; return its report."""
    installed = devices.installed_backends()
    backend = notes.backend if notes.backend in installed else devices.choose_backend("auto")
    process = Processes(backend, StudyLog(), 1).start(0, devices.choose("auto")[0], order)
    try:
        with reporter.waiting(f"{what}, on {backend}"), signals() as interruption:
            answer = asking.reply(process, "used the model", "stopped; nothing was written", interruption)
    finally:
        process.end()
    assert isinstance(answer, Noted)  # noqa: S101 (the only other reply to UseModel)
    return answer
