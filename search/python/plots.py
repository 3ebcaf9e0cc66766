"""Figures of a study, of Plotly, drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from manyfit.start import users_packages
from search.errors import UsageError
from search.python.edge import edge
from search.storage.studies import Stored

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Plots:
    """Figures of a study, of Plotly: those of `manyfit report`."""

    def __init__(self, stored: Callable[[], Stored], with_objects: Callable[[Stored], Stored]) -> None:
        self._stored, self._with_objects = stored, with_objects

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

        Raises UsageError as `Results.model` does, or if the model's outputs are neither classes nor numbers.
        """
        return self._of_model(output, "confusion", "predicted")

    @edge()
    def mistakes(self, output: str = "") -> go.Figure:
        """Draw the validation rows that the best model gets most wrong; UsageError if they are not images."""
        return self._of_model(output, "worst-mistakes", "largest-errors")

    @edge()
    def first_weights(self) -> go.Figure:
        """Draw the weights of the best model's first layer; UsageError if its rows are not images."""
        return self._of_model(None, "first-weights")

    def _of_model(self, output: str | None, *names: str) -> go.Figure:
        from search.sessions import describing
        from search.sessions.reporter import LOGGING
        from search.views import model_page

        stored = self._with_objects(self._stored())
        if not stored.complete:
            raise UsageError(f"{stored.name} has no complete trial yet, so there is no model to look at")
        with users_packages():
            detail = describing.describe(stored, stored.complete[0], LOGGING)
        return model_page.figure(stored.complete[0], detail, output, names)
