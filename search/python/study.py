"""A study that a Python program or a notebook makes: its builder and its data are objects of the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyfit.start import users_packages
from search.errors import UsageError
from search.python import handing
from search.python.arguments import ArgumentText, Table, table_of
from search.python.edge import edge, interrupts
from search.python.reporting import InPython, Verdicts, reporter_of
from search.python.results import Results, with_given
from search.reading import studyfile
from search.spec.given import Given
from search.storage import records
from spaces import Parameter

if TYPE_CHECKING:
    from search.python.hashing import Hashes
    from search.sessions.reporter import Reporter
    from search.sessions.run import Outcome
    from search.spec.study import StudyFile
    from search.storage.studies import Stored


class Study(Results):
    """A search for the hyperparameters of a Keras model.

    Every argument is a key of a study file (docs/study-file.md) and is checked at once; UsageError names the argument.

    Args:
        build: a function (config, data) -> keras.Model, `"my_model.py:build"`, or the name of a built-in builder. Or a
            builder in KerasTuner's form: a function of `hp`, or a HyperModel.
        data: arrays `(x, y)`, pairs `((x_train, y_train), (x_test, y_test))`, a dictionary with x_train, y_train,
            x_validation and so on, a function that returns one of these, or a source such as "sklearn:digits" or a path.
            `Data` adds the settings of [data].
        space: name -> `Float`, `Int`, `Choice`, or a list of choices; or the name of a preset. None for a builder in
            KerasTuner's form: `run` and `plan` then find it by running the builder.
        objective: the metric that trials are judged by, at their best epoch.
        name: of the study in its database.
        storage: the database; by default NAME.db in the working folder.
        trials: how many trials the study has in all.
        epochs: how many epochs a trial has at most.
        time: seconds for the whole study, or a text such as "10m".
        model: fixed arguments of the builder.
        train: the section [train]; `loss`, `metrics` and `callbacks` may be functions and classes.
        search: the section [search]: sampler, pruner, early_stopping, start, duplicates.
        run: the section [run]: engine, lanes, backend, devices, precision and others.
        limits: the section [limits]: parameters, model_mb, latency_ms.
    """

    @edge()
    def __init__(  # noqa: PLR0913 (an argument for each key of the section [study])
        self,
        build: Callable[..., Any] | str,
        data: Any,
        space: Mapping[str, Parameter | Sequence[Any] | Mapping[str, Any]] | str | None = None,
        objective: str = "val_loss",
        *,
        name: str = "study",
        storage: str | Path | None = None,
        direction: str | None = None,
        trials: int = 20,
        epochs: int | None = None,
        seed: int = 0,
        time: float | str | None = None,
        stop_after: int | None = None,
        repeats: int = 1,
        folds: int = 1,
        model: Mapping[str, Any] | None = None,
        train: Mapping[str, Any] | None = None,
        search: Mapping[str, Any] | None = None,
        run: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        settings = {
            "name": name,
            "objective": objective,
            "direction": direction,
            "trials": trials,
            "epochs": epochs,
            "seed": seed,
            "time": time,
            "stop_after": stop_after,
            "repeats": repeats,
            "folds": folds,
        }
        sections = {"model": model, "train": train, "search": search, "run": run, "limits": limits}
        if not isinstance(name, str) or not name:
            raise UsageError(f"name: must be a text that is not empty; received {name!r}")
        with users_packages():
            storage = f"{name}.db" if storage is None else storage
            self._table: Table = table_of(build, data, space, storage, settings, sections)
        self._folder = Path.cwd()
        self._file = self._checked(allow_unused=False)
        super().__init__(self._file.storage, self._file.name)

    @edge()
    def run(
        self,
        trials: int | None = None,
        time: float | str | None = None,
        *,
        allow_unused: bool = False,
        check: bool = True,
        progress: bool = True,
    ) -> None:
        """Start the study, or go on with it until it has `trials` trials in all.

        An interrupt (Ctrl-C, or a notebook's stop button) ends it cleanly and raises KeyboardInterrupt; run() goes on.

        Args:
            trials: how many trials the study has in all from now on.
            time: seconds for the whole study from now on, or a text such as "10m".
            allow_unused: start a new study although nothing reads some of its settings.
            check: refuse a new study with a fault that would waste it, such as a loss that is not finite.
            progress: show a progress bar; without it, the logger `manyfit` gets the lines.

        Raises UsageError for bad data and wrong settings, IdentityError if the database has a study of this name with another
        space, other data or another builder, ManyfitError if every trial fails.
        """
        from search.sessions import run as sessions

        for key, value in (("trials", trials), ("time", time)):
            if value is not None:
                self._table.text["study"][key] = value
        reporter = reporter_of(progress=progress)
        given, hashes = self._given()
        for text in hashes.warnings if hashes else ():
            reporter.warning(text)
        self._find_space(given, reporter)
        self._file = self._checked(allow_unused=allow_unused)
        file = replace(self._file, given=given)
        outcome = sessions.run(file, reporter, allow_unused=allow_unused, interruptions=interrupts, checks=check)
        _tell(reporter, outcome)

    @edge()
    def confirm(self, top: int | None = None, repeats: int | None = None, *, progress: bool = True) -> dict[str, Any]:
        """Train the best configs again with fresh seeds, or go on with that; return what `manyfit confirm --json` prints.

        An interrupt ends it cleanly and raises KeyboardInterrupt; confirm() goes on.

        Args:
            top: how many of the best configs; 5 if not given, or all that were trained fully.
            repeats: how many trainings of each; 10 if not given.
            progress: as for `run`.

        Raises UsageError for a study that is not done, or that is confirmed with other numbers; IdentityError if its data or
        its functions have changed.
        """
        from search.sessions import confirming
        from search.views import confirmed

        for key, value, least in (("top", top, 1), ("repeats", repeats, 2)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UsageError(f"{key}: must be a whole number of at least {least}; received {value!r}")
        reporter = reporter_of(progress=progress)
        stored = self._with_objects(self._load())
        return confirmed.to_json(confirming.confirm(stored, top, repeats, reporter, interruptions=interrupts))

    @edge()
    def plan(self) -> dict[str, Any]:
        """Load the data, build one model, and return what `run` would do: engine, lanes, memory, warnings. Writes nothing."""
        from search.sessions.planning import plan
        from search.sessions.reporter import LOGGING

        given, _ = self._given()
        self._find_space(given, InPython(LOGGING))
        self._file = self._checked(allow_unused=False)
        return plan(replace(self._file, given=given))

    @edge()
    def check(self, *, progress: bool = True) -> dict[str, Any]:
        """Check the data, and the training of a model, before the search; return what `manyfit check --json` prints.

        Trains for some hundred steps, and writes nothing. "findings" has a verdict each: its `level` is ok, look or stop.

        Args:
            progress: report verdicts as they come; without it, the logger `manyfit` gets them.

        Raises UsageError or DataError for a study that `run` would refuse to start.
        """
        from search.sessions import checking
        from search.views import findings

        reporter = reporter_of(progress=progress)
        given, _ = self._given()
        self._find_space(given, reporter)
        self._file = self._checked(allow_unused=True)
        file = replace(self._file, given=given)
        return findings.to_json(checking.check(file, Verdicts(reporter), interruptions=interrupts))

    @property
    def space(self) -> dict[str, Parameter]:
        """The space, by names. That of a builder in KerasTuner's form is empty before the first `plan` or `run`."""
        return dict(self._file.space)

    def _find_space(self, given: Given | None, reporter: Reporter) -> None:
        """Find the space of a builder in KerasTuner's form, unless that is done; UsageError if it can't be."""
        if "space" in self._table.text:
            return
        from search.sessions.space_finder import SpaceFinder

        with_space = studyfile.with_space(*self._described(), SpaceFinder(reporter), given)
        self._table.text.update(with_space.table)

    def _checked(self, *, allow_unused: bool) -> StudyFile:
        objects = Given(frozenset(f"python:{object_name}" for object_name in self._table.objects))
        return studyfile.build(*self._described(), allow_unused=allow_unused, objects=objects)

    def _described(self) -> tuple[Path, ArgumentText]:
        # There is no such file; only its folder and its name are used.
        path = self._folder / str(self._table.text["study"]["name"])
        return path, ArgumentText(path, "", self._table.text)

    def _given(self) -> tuple[Given | None, Hashes | None]:
        """Return the objects, pickled as they are now: a notebook may have changed what its functions reach."""
        if not self._table.objects:
            return None, None
        with users_packages():
            before, hashes = handing.given(self._table.objects)
            return handing.pickled(before, hashes, self._table.objects), hashes

    def _load(self) -> Stored:
        if not records.exists(self.path, self.name):
            raise UsageError(f"{self.name} has not begun: {self.path} has no such study yet; use run() first")
        return super()._load()

    def _with_objects(self, stored: Stored) -> Stored:
        return with_given(stored, self._given()[0])

    def _main(self) -> Mapping[str, Any]:
        with users_packages():
            return handing.given(self._table.objects)[1].main


def _tell(reporter: Reporter, outcome: Outcome) -> None:
    """Report how a run ended; ManyfitError if no trial was trained."""
    from search.sessions import outcomes

    for line in outcomes.lines(outcome):
        reporter.line(line)
    if outcome.stored.complete:
        reporter.line(outcomes.best_line(outcome.stored))
    outcomes.check(outcome, "run(trials={trials})")
