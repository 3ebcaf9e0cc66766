"""What a study has found, read from its database: tables, figures, and models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyfit.start import users_packages
from search.errors import UsageError
from search.python.edge import edge
from search.storage import records
from search.storage.studies import Stored

if TYPE_CHECKING:
    import keras
    import pandas as pd
    import plotly.graph_objects as go

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
        return Plots(self)

    @edge()
    def export(self, top: int = 5) -> dict[str, Any]:
        """Return what best.json holds: the `top` best configs with their curves, the settings, and the study's identity."""
        from search.views import export

        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise UsageError(f"top: must be a whole number of at least 1; received {top!r}")
        return dict(json.loads(export.to_json(export.best(self._load(), top))))

    @edge()
    def model(self, trial: int) -> keras.Model:
        """Return the model of a trial with the weights of its best epoch, compiled as far as Keras can store that.

        It takes rows as the data source has them: scaling is inside. A worker builds it and evaluates it on the validation
        rows; a value that is not the trial's gives a warning. Only the best trials' weights are kept (run["keep"], 5).

        Raises UsageError if the weights are missing, if data or builder have changed, or if Keras can't save the model.
        """
        from search.python import models

        stored = self._load()
        if isinstance(trial, bool) or not isinstance(trial, int) or not 0 <= trial < len(stored.trials):
            raise UsageError(f"trial: {self._name} has {len(stored.trials)} trials, from 0; received {trial!r}")
        return models.load(self._with_objects(stored), self._trial(stored, trial), self._main())

    @staticmethod
    def _trial(stored: Stored, number: int) -> Trial:
        return next(trial for trial in stored.trials if trial.number == number)

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


class Plots:
    """Figures of a study, of Plotly: those of `manyfit report`."""

    def __init__(self, results: Results) -> None:
        self._results = results

    @edge()
    def curves(self, metric: str | None = None, top: int | None = None) -> go.Figure:
        """Draw the curves of all trials, or of the `top` best ones; by default of the objective.

        Of many trials only the best and some others are drawn.
        """
        from search.views.figures import training

        return training.curves(self._stored(), metric, top)

    @edge()
    def gap(self) -> go.Figure:
        """Draw training against validation of the best trial."""
        from search.views.figures import training

        return training.best_gap(self._stored())

    @edge()
    def history(self) -> go.Figure:
        """Draw the value of every trial, and the best so far."""
        from search.views.figures import progress

        return progress.history(self._stored())

    @edge()
    def best(self, over: str = "epochs") -> go.Figure:
        """Draw the best value over "epochs" trained, "seconds" of training or "trials" ended."""
        from search.views.figures import progress

        return progress.best(self._stored(), over)

    @edge()
    def time(self) -> go.Figure:
        """Draw where the workers' time went."""
        from search.views.figures import progress

        return progress.time(self._stored())

    @edge()
    def parallel(self) -> go.Figure:
        """Draw every complete trial as a line through its parameters and its value."""
        from search.views.figures import params

        return params.parallel(self._stored())

    @edge()
    def importance(self) -> go.Figure:
        """Draw how much each parameter matters, with intervals."""
        from search.views.figures import params

        return params.importance(self._stored())

    @edge()
    def slices(self) -> go.Figure:
        """Draw the values over each parameter."""
        from search.views.figures import params

        return params.slices(self._stored())

    @edge()
    def contours(self, *params: str) -> go.Figure:
        """Draw the smoothed values over pairs of these parameters; by default of the four that matter most."""
        from search.views.figures import params as figures

        return figures.contours(self._stored(), params)

    @edge()
    def confusion(self, output: str = "") -> go.Figure:
        """Draw the confusion matrix of the best model on the validation rows; of a regression, predicted over true values.

        A worker builds the model with its kept weights. `output` names one of several.

        Raises UsageError as `Results.model` does, or if the model's outputs are no classes and no numbers.
        """
        return self._of_model(output, "confusion", "predicted")

    @edge()
    def mistakes(self, output: str = "") -> go.Figure:
        """Draw the validation rows that the best model gets most wrong; UsageError if they are no images."""
        return self._of_model(output, "worst-mistakes", "largest-errors")

    @edge()
    def first_weights(self) -> go.Figure:
        """Draw the weights of the best model's first layer; UsageError if its rows are no images."""
        return self._of_model(None, "first-weights")

    def _of_model(self, output: str | None, *names: str) -> go.Figure:
        from search.sessions import describing
        from search.sessions.reporter import LOGGING
        from search.views import model_page

        stored = self._results._with_objects(self._stored())
        if not stored.complete:
            raise UsageError(f"{stored.name} has no complete trial yet, so there is no model to look at")
        with users_packages():
            detail = describing.describe(stored, stored.complete[0], LOGGING)
        return model_page.figure(stored.complete[0], detail, output, names)

    def _stored(self) -> Stored:
        return self._results._load()


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
        database, found = studyfile.locate(path)
        records.load(database, name or found, with_trials=False)
        return Results(database, name or found)
    path = path.resolve()
    chosen = name or records.only_name(path)
    records.load(path, chosen, with_trials=False)
    return Results(path, chosen)


def with_given(stored: Stored, given: Any) -> Stored:
    """Return a stored study with the objects of a program."""
    return replace(stored, file=replace(stored.file, given=given))
