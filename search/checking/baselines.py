"""The scores of scikit-learn's models on the validation rows: what a search must beat. Nothing here imports keras."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from search.checking import rows
from search.checking.report import NotApplicable
from search.data import Data
from search.data.targets import label_numbers
from search.spec.finding import Finding

# A model that is better than a constant by fewer standard errors may be so by chance.
_STANDARD_ERRORS = 2.5
_LEAST_R2 = 0.05


def check_single(data: Data) -> None:
    """Raise NotApplicable for data that scikit-learn's models can't take as one table of features and one target."""
    if data.info.targets or data.info.inputs:
        raise NotApplicable("the data have several inputs or outputs")
    if data.stream is not None:
        raise NotApplicable("the training rows come in batches")
    if data.info.vocabulary_size:
        raise NotApplicable("the rows are token ids")


def labels_of(y: Any, data: Data) -> NDArray[Any]:
    """Return class numbers (rows,), or the targets of a regression (rows,)."""
    array = np.asarray(y)
    return array.reshape(-1) if data.info.task == "regression" else label_numbers(array)


def baselines(data: Data) -> Iterator[Finding]:
    """Yield the scores of a constant and of scikit-learn's models on the validation rows."""
    check_single(data)
    if data.info.task != "regression":
        yield _of_classes(data)
    elif np.asarray(data.y_train[:1]).size > 1:
        raise NotApplicable("a row has several targets")
    else:
        yield _of_numbers(data)


def _of_classes(data: Data) -> Finding:
    x, y, x_held, y_held = _arrays(data)
    scores: dict[str, float] = {}
    areas: dict[str, float] = {}
    for name, model in _classifiers().items():
        _fit(model, x, y)
        scores[name], areas[name] = float(model.score(x_held, y_held)), _area(model, x_held, y_held)
    constant, _ = scores.pop("constant"), areas.pop("constant")
    best = max(scores, key=lambda name: scores[name])
    least_score = constant + _STANDARD_ERRORS * math.sqrt(max(constant * (1 - constant), 0.01) / len(y_held))
    # Where one class is frequent, a useful model may be right no more often than a constant: look at its order of rows, too.
    counts = np.bincount(y_held)
    few = int(counts[counts > 0].min())
    other = len(y_held) - few
    least_area = 0.5 + _STANDARD_ERRORS * math.sqrt((len(y_held) + 1) / (12 * few * max(other, 1)))
    has_signal = scores[best] > least_score or max(areas.values()) > least_area
    return _finding(
        "accuracy", constant, scores, data, is_clear=min(least_score, least_area) < 1, has_signal=has_signal
    )


def _of_numbers(data: Data) -> Finding:
    x, y, x_held, y_held = _arrays(data)
    scores = {name: float(_fit(model, x, y).score(x_held, y_held)) for name, model in _regressors().items()}
    constant = scores.pop("constant")
    return _finding("R2", constant, scores, data, has_signal=max(scores.values()) > constant + _LEAST_R2)


def _finding(
    what: str, constant: float, scores: dict[str, float], data: Data, *, has_signal: bool, is_clear: bool = True
) -> Finding:
    best = max(scores, key=lambda name: scores[name])
    shown = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    trained, held = len(rows.chosen(len(data.x_train))), len(rows.chosen(len(data.x_validation)))
    text = f"{what} on {held:,} validation rows: constant {constant:.3f}, {shown} (scikit-learn, {trained:,} training rows)"
    numbers = {"constant": constant, **scores}
    if not is_clear:
        advice = "these are too few validation rows to tell a model from a constant: raise validation in [data]"
        return Finding("baselines", "look", text, advice, numbers)
    if not has_signal:
        advice = (
            "no model clearly beats a constant: see that each label is beside its own row (a shuffle of one alone?)"
        )
        return Finding("baselines", "look", text, advice, numbers)
    return Finding("baselines", "ok", text, f"a search has to beat {scores[best]:.3f} ({best})", numbers)


def _arrays(data: Data) -> tuple[NDArray[Any], ...]:
    train, held = rows.chosen(len(data.x_train)), rows.chosen(len(data.x_validation))
    y, y_held = labels_of(data.y_train, data)[train], labels_of(data.y_validation, data)[held]
    return rows.matrix(data.x_train), y, rows.matrix(data.x_validation), y_held


def _area(model: Any, x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the area under the ROC curve, of each class against the others on average; 0.5 without two classes in y."""
    from sklearn.metrics import roc_auc_score

    known = {label: column for column, label in enumerate(model.classes_)}
    probabilities = model.predict_proba(x)
    areas = [
        float(roc_auc_score(y == label, probabilities[:, known[label]]))
        for label in np.unique(y)
        if label in known and (y != label).any()
    ]
    return float(np.mean(areas)) if areas else 0.5


def _classifiers() -> dict[str, Any]:
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "constant": DummyClassifier(),
        "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=100)),
        "nearest neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier()),
        "gradient boosting": HistGradientBoostingClassifier(max_iter=15, max_leaf_nodes=8, random_state=0),
    }


def _regressors() -> dict[str, Any]:
    from sklearn.dummy import DummyRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "constant": DummyRegressor(),
        "linear": make_pipeline(StandardScaler(), Ridge()),
        "nearest neighbours": make_pipeline(StandardScaler(), KNeighborsRegressor()),
        "gradient boosting": HistGradientBoostingRegressor(max_iter=30, random_state=0),
    }


def _fit(model: Any, x: NDArray[Any], y: NDArray[Any]) -> Any:
    # One thread: those of OpenMP wait busily for each other where other programs use the cores.
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
        warnings.simplefilter("ignore")  # a linear model that has not converged still is a baseline
        return model.fit(x, y)
