"""What a study has found, read from its database: tables, figures, and models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from search.errors import UsageError
from search.python.edge import edge, interrupts
from search.python.plots import Plots
from search.python.reporting import reporter_of
from search.sessions.output import check_model
from search.storage import records
from search.storage.studies import Stored
from search.trials.measured import Split

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from search.trials.trial import Trial


@dataclass(frozen=True)
class Best:
    """The best trial of a study.

    Attributes:
        number: of the trial.
        value: the objective at its best epoch.
        epoch: that epoch, counted from 1.
        params: the searched parameters; inactive conditional ones are absent.
        config: params and everything fixed: what the builder and training read.
    """

    number: int
    value: float
    epoch: int
    params: Mapping[str, Any]
    config: Mapping[str, Any]
    _results: Results = field(repr=False, compare=False)

    def model(self) -> keras.Model:
        """Return its trained model, as `Results.model` does."""
        return self._results.model(self.number)


class Results:
    """A study as its database holds it. Every attribute reads the database, also while another process adds to it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    @property
    def name(self) -> str:
        """The study's name."""
        return self._name

    @property
    def path(self) -> Path:
        """The database."""
        return self._path

    @property
    @edge()
    def best(self) -> Best:
        """The best of the trials that were trained fully; UsageError while there is none."""
        stored = self._load()
        if not stored.complete:
            raise UsageError(f"{self._name} has no complete trial yet, so there is no best one; use run() first")
        trial = stored.complete[0]
        return Best(
            trial.number,
            trial.value or 0.0,
            trial.best_epoch or 1,
            stored.file.space.config(trial.params),
            dict(trial.config),
            self,
        )

    @property
    @edge()
    def trials(self) -> pd.DataFrame:
        """One row a trial: trial, state, ended, value, best_epoch, epochs, seconds, started, and params.NAME each."""
        from search.views import trial_frames

        return trial_frames.trials(self._load())

    @property
    @edge()
    def curves(self) -> pd.DataFrame:
        """One row an epoch: trial, repeat (where there are several), epoch, seconds, and every metric."""
        from search.views import trial_frames

        return trial_frames.curves(self._load())

    @property
    def plot(self) -> Plots:
        """Figures of Plotly: `plot.curves()`, `plot.history()` and others."""
        return Plots(self._load, self._with_objects)

    @edge()
    def export(self, top: int = 5) -> dict[str, Any]:
        """Return what best.json holds: the `top` best configs with their curves, the settings, and the study's identity."""
        from search.views import export

        _check_whole("top", top, 1)
        return dict(json.loads(export.to_json(export.best(self._load(), top))))

    @edge()
    def model(self, trial: int) -> keras.Model:
        """Return the model of a trial with the weights of its best epoch, compiled as far as Keras can store that.

        It takes rows as the data source has them: scaling is inside. A worker builds it and evaluates it on the validation
        rows; a value that is not the trial's gives a warning. Only the best trials' weights are kept (run["keep"], 5).

        Raises UsageError if the weights are missing, if data or builder have changed, or if Keras can't save the model.
        """
        from search.python import models

        return models.load(*self._chosen(trial), self._main())

    @edge()
    def evaluate(
        self,
        split: Split = "test",
        *,
        trial: int | None = None,
        model: str | Path | None = None,
        progress: bool = True,
    ) -> dict[str, Any]:
        """Evaluate a trained model on the rows of a split; return what `manyfit evaluate --json` prints.

        A search never uses test rows, and the study counts each evaluation on them.

        Args:
            split: "test", "validation" or "train".
            trial: whose kept weights; by default the best one's.
            model: a .keras file of this study's instead, such as `retrain` writes.
            progress: report what happens; without it, the logger `manyfit` gets the lines.

        Raises UsageError if the weights are missing, if data or builder have changed, or if there are no such rows.
        """
        from search.sessions import evaluating
        from search.views import evaluation

        if split not in get_args(Split):
            raise UsageError(f"split: must be one of {', '.join(get_args(Split))}; received {split!r}")
        reporter = reporter_of(progress=progress)
        if model is None:
            return evaluation.to_json(evaluating.of_study(*self._chosen(trial), split, reporter))
        if trial is not None:
            raise UsageError("trial and model: a file is of one trial already; leave one of them out")
        stored = self._with_objects(self._load())
        return evaluation.to_json(evaluating.of_file(_path("model", model), split, reporter, stored))

    @edge()
    def predict(self, x: Any, *, trial: int | None = None, model: str | Path | None = None) -> pd.DataFrame:
        """Predict new rows; return the table that `manyfit predict` writes, a line for each row, with its index in a table.

        Args:
            x: rows as the study's data have them, without targets: an array, a table of pandas, a dictionary or tuple of
                these; or a source such as "new.csv".
            trial: whose model; by default the best one's. It is built in a worker for each call.
            model: a .keras file of manyfit's instead, which needs no worker.

        A class is given by its name, with the probability of each; numbers are in the target's own units.

        Raises DataError for rows that the model does not take, UsageError as `model` does.
        """
        from search.python import models

        if model is None:
            return models.predict(*self._chosen(trial), x, self._main())
        if trial is not None:
            raise UsageError("trial and model: a file is of one trial already; leave one of them out")
        return models.predict_by(_path("model", model), x, self._load(), self._main())

    @edge()
    def retrain(
        self,
        output: str | Path,
        *,
        rank: int = 1,
        full: bool = False,
        long: bool = False,
        seed: int | None = None,
        progress: bool = True,
    ) -> dict[str, Any]:
        """Train a config again and save its model, its curves and its card; return what `manyfit retrain --json` prints.

        Args:
            output: the .keras file to write.
            rank: of the config; 1 is the best.
            full: on training and validation rows, for the best epoch's number of epochs.
            long: past the search's last epoch, until it improves no more.
            seed: another one than the search's.
            progress: as for `evaluate`.

        Raises UsageError if the training fails or the model can't be saved, IdentityError if data or functions have changed.
        """
        from search.sessions import retraining
        from search.views import export
        from search.views import retraining as views

        path, mode = _path("output", output), retraining.mode_of(full=full, long=long)
        check_model("output", path)
        _check_whole("rank", rank, 1)
        if seed is not None:
            _check_whole("seed", seed, 0, 2**32 - 1)
        stored = self._with_objects(self._load())
        recipe, reporter = retraining.Recipe.of_study(stored, rank), reporter_of(progress=progress)
        export.check_target(path, stored)
        done = retraining.retrain(recipe, path, reporter, mode, seed, interruptions=interrupts)
        written, why = views.write(done, stored, path, recipe.looks)
        if why:
            reporter.note(f"the learning curves are a page, and no PNG: {why}")
        return views.to_json(done, written)

    @edge()
    def ensemble(
        self, output: str | Path, *, top: int = 5, test: bool = False, progress: bool = True
    ) -> dict[str, Any]:
        """Save one model that averages the best configs; return what `manyfit ensemble --json` prints.

        Args:
            output: the .keras file to write.
            top: how many of the best distinct configs, at least 2.
            test: also evaluate it and the best trial on the test rows; the study counts two evaluations.
            progress: as for `evaluate`.

        Raises UsageError as `retrain` does, or for fewer configs.
        """
        from search.sessions import ensembling
        from search.views import ensembled, export

        path = _path("output", output)
        check_model("output", path)
        _check_whole("top", top, 2)
        stored = self._with_objects(self._load())
        export.check_target(path, stored)
        reporter = reporter_of(progress=progress)
        made, tests = ensembling.ensemble(stored, top, path, reporter, test=test, interruptions=interrupts)
        return ensembled.to_json(made, path, tests)

    def _chosen(self, trial: int | None) -> tuple[Stored, Trial]:
        """Return the study with its objects, and a trial of it, by default the best one."""
        stored = self._load()
        if trial is None:
            if not stored.complete:
                raise UsageError(f"{self._name} has no complete trial yet; use run() first")
            return self._with_objects(stored), stored.complete[0]
        if isinstance(trial, bool) or not isinstance(trial, int) or not 0 <= trial < len(stored.trials):
            raise UsageError(f"trial: {self._name} has {len(stored.trials)} trials, from 0; received {trial!r}")
        return self._with_objects(stored), next(one for one in stored.trials if one.number == trial)

    def _load(self) -> Stored:
        return records.load(self._path, self._name)

    def _with_objects(self, stored: Stored) -> Stored:
        """Return the study with the objects of this program, if it has any."""
        return stored

    def _main(self) -> Mapping[str, Any]:
        """Return the classes and functions of this program that its models may need, by name."""
        return {}

    @edge()
    def __repr__(self) -> str:
        try:
            stored = self._load()
        except Exception:  # noqa: BLE001 (a text for people must not fail)
            return f"<{type(self).__name__} {self._name!r} in {self._path}>"
        ended, best = sum(trial.is_ended for trial in stored.trials), ""
        if stored.complete:
            first = stored.complete[0]
            best = f", best {stored.file.settings.study.objective} {first.value:.5g} (trial {first.number})"
        of = stored.file.settings.study.trials
        return f"<{type(self).__name__} {self._name!r} in {self._path}: {ended} of {of} trials{best}>"


@edge()
def load(path: str | Path, name: str | None = None) -> Results:
    """Open the study of a database, or of a study file; `name` chooses one where there are several.

    A study whose builder stands in a file gives its models, too; one of a Python program does so in that program alone.

    Raises StoreError if there is no such study or the database can't be read, UsageError if a name is needed.
    """
    from search.reading import studyfile

    if not isinstance(path, str | Path) or not str(path):
        raise UsageError(f'path: must be a database such as "studies/digits.db"; received {path!r}')
    path = Path(path)
    if path.suffix == ".toml":
        database, own_name = studyfile.locate(path)
        records.load(database, name or own_name, with_trials=False)
        return Results(database, name or own_name)
    path = path.resolve()
    chosen = name or records.only_name(path)
    records.load(path, chosen, with_trials=False)
    return Results(path, chosen)


def with_given(stored: Stored, given: Any) -> Stored:
    """Return a stored study with the objects of a program."""
    return replace(stored, file=replace(stored.file, given=given))


def _path(argument: str, given: Any) -> Path:
    if not isinstance(given, str | Path) or not str(given):
        raise UsageError(f'{argument}: must be a path such as "best.keras"; received {given!r}')
    return Path(given)


def _check_whole(argument: str, given: Any, least: int, most: int | None = None) -> None:
    is_whole = isinstance(given, int) and not isinstance(given, bool)
    if not is_whole or given < least or (most is not None and given > most):
        up_to = f" and at most {most}" if most is not None else ""
        raise UsageError(f"{argument}: must be a whole number of at least {least}{up_to}; received {given!r}")
