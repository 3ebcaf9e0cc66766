"""Uses a model file in a process of its own, without its study: predicts new rows, draws its layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from search import durable
from search.engines import devices
from search.errors import DataError, Interrupted, UsageError
from search.log import StudyLog
from search.sessions.reporter import Reporter
from search.signals import signals
from search.spec import model_file
from search.spec.model_file import ModelNotes
from search.trials.events import Noted
from search.trials.predicted import Predicted
from search.workers.local import Processes
from search.workers.messages import Refused, UseModel
from search.workers.transport import Gone

# How long to wait for the worker before signals are handled.
_TICK_S = 0.1


def predict(model: Path, source: str, output: Path, reporter: Reporter, code: Sequence[Path] = ()) -> Predicted:
    """Predict new rows by a model file, and write the table `output`, whole or not at all.

    `code`: files with layers of the user's own.

    Raises UsageError for a model that is none of manyfit's or can't be loaded, DataError for rows that it does not take.
    """
    notes = model_file.read(model)
    partial = output.with_name(f".{output.stem}.{os.getpid()}.partial.csv").absolute()
    options = {"source": source, "base": str(Path.cwd()), "output": str(partial), "code": _files(code)}
    try:
        detail = _asked(
            UseModel("predict", str(model.absolute()), options), notes, reporter, f"predicting {source}"
        ).detail
        durable.replace(partial, output)
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror or error}; name another file with -o") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return Predicted(detail["rows"], tuple(detail["columns"]), detail["outputs"], tuple(detail["lines"]))


def plot(model: Path, output: Path | None, reporter: Reporter, code: Sequence[Path] = ()) -> Mapping[str, Any]:
    """Draw the layers of a model file into `output`, if Graphviz is there; return its layers as well.

    The result has `summary` (a text), `layers`, `parameters`, and `why` there is no picture, "" if there is one. Raises
    UsageError for a model that is none of manyfit's or can't be loaded.
    """
    notes = model_file.read(model)
    # Keras draws what the suffix says.
    partial = output and output.with_name(f".{output.stem}.{os.getpid()}.partial{output.suffix}").absolute()
    options = {"output": str(partial or ""), "code": _files(code)}
    try:
        detail = _asked(UseModel("plot", str(model.absolute()), options), notes, reporter, f"drawing {model}").detail
        if partial is not None and output is not None and not detail["why"]:
            durable.replace(partial, output)
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror or error}; name another file with -o") from None
    finally:
        if partial is not None:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
    return detail


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
            while not process.has_sent(within_s=_TICK_S):
                if number := interruption():
                    raise Interrupted("stopped; nothing was written", number)
            (answer,) = process.receive()
    except Gone:
        process.process.wait()
        words = f":\n{process.last_words}" if process.last_words else ""
        raise UsageError(f"the process that used the model {process.death}{words}") from None
    finally:
        process.end()
    if isinstance(answer, Refused):
        raise DataError(answer.message) if answer.is_data else UsageError(answer.message)
    assert isinstance(answer, Noted)  # noqa: S101 (the only other reply to UseModel)
    return answer
