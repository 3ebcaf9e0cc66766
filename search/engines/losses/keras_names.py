"""Finds the losses and metrics of Keras that a study file names, in any spelling, and checks their options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import keras
from keras.src.utils.naming import to_snake_case

from search.errors import UsageError
from search.spec.vocabulary import closest

_ALIASES = {
    "mse": "MeanSquaredError", "mae": "MeanAbsoluteError", "mape": "MeanAbsolutePercentageError",
    "msle": "MeanSquaredLogarithmicError", "rmse": "RootMeanSquaredError", "r2": "R2Score",
    "bce": "BinaryCrossentropy", "cce": "CategoricalCrossentropy", "scce": "SparseCategoricalCrossentropy",
    "kld": "KLDivergence", "kl": "KLDivergence", "kullbackleiblerdivergence": "KLDivergence",
    "cosine": "CosineSimilarity", "cosineproximity": "CosineSimilarity",
    "logcosh": "LogCosh", "logcosherror": "LogCosh", "f1": "F1Score", "fbeta": "FBetaScore",
    "rocauc": "AUC", "auroc": "AUC", "topk": "TopKCategoricalAccuracy", "topkaccuracy": "TopKCategoricalAccuracy",
}  # fmt: skip
# Keras picks the class of accuracy that fits the shapes; `Rule.metric` does so for this name.
ACCURACIES = ("accuracy", "acc")
_METRICS_ALIASES = {"logcosh": "LogCoshError"}
# Base classes, which compare nothing by themselves.
_BASES = ("Loss", "Metric", "Mean", "Sum", "MeanMetricWrapper")
_COMMON = ("reduction", "dtype")


@dataclass(frozen=True)
class Named:
    """A loss or metric of Keras with its options from a study file.

    Attributes:
        key: of the study file, for errors.
        entry: as in the study file.
        kind: the class.
        options: for its constructor.
        from_logits: as in the study file; None if it is not set there.
    """

    key: str
    entry: str | Mapping[str, Any]
    kind: type[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    from_logits: bool | None = None

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.kind.__name__

    @property
    def takes_from_logits(self) -> bool:
        """Whether the class has the option from_logits."""
        return "from_logits" in _arguments(self.kind)

    def with_options(self, **options: Any) -> Named:
        """Return a copy with more options."""
        return replace(self, options={**self.options, **options})

    def make(self) -> Any:
        """Make the loss or metric; UsageError for a value that Keras rejects."""
        options = dict(self.options)
        if self.from_logits is not None and self.takes_from_logits:
            options["from_logits"] = self.from_logits
        if issubclass(self.kind, keras.metrics.Metric) and isinstance(self.entry, str):
            # Keras numbers metric names within a process: without a name, the second trial would report "auc_1".
            options["name"] = self.entry.lower()
        try:
            return self.kind(**options)
        except (ValueError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise UsageError(f"{self.key}: {self.name} does not take these options: {first}; mend them") from None


def find(key: str, entry: str | Mapping[str, Any]) -> Named:
    """Return the loss or metric that an entry of `key` names; UsageError for an unknown class or option."""
    is_metric = key == "train.metrics"
    options = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
    name = str(options.pop("name", ""))
    classes = _classes(is_metric=is_metric)
    kind = classes.get(_plain(name))
    if kind is None:
        what, example = ("metrics", "my_metric") if is_metric else ("losses", "my_loss")
        spellings = ["accuracy"] * is_metric + [to_snake_case(kind.__name__) for kind in classes.values()]
        raise UsageError(
            f"{key}: Keras does not take {name!r}{closest(name, spellings)}; name one of Keras's {what}, or a function of "
            f'yours, such as "my_model.py:{example}"'
        )
    from_logits = options.pop("from_logits", None)
    if from_logits is not None and not isinstance(from_logits, bool):
        raise UsageError(f"{key}: from_logits of {kind.__name__} is true or false; received {from_logits!r}")
    return Named(key, entry, kind, dict(_checked(key, kind, options)), from_logits)


def name_of(item: Any) -> str:
    """Return the name of a loss or metric as `Model.compile` takes it: a text, a function or an object."""
    if item is None or isinstance(item, str):
        return str(item)
    return str(getattr(item, "name", None) or getattr(item, "__name__", type(item).__name__))


def refuse_option(named: Named, option: str) -> None:
    """Raise a UsageError for an option that a class does not have."""
    takes = ["name", *_arguments(named.kind)]
    raise UsageError(
        f"{named.key}: {named.name} has no option {option!r}{closest(option, takes)}; it takes {', '.join(takes[1:])}"
    )


def _checked(key: str, kind: type[Any], options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    arguments = _arguments(kind)
    for option, value in options.items():
        if option not in arguments:
            refuse_option(Named(key, kind.__name__, kind), option)
        # TOML reads 2 as an int, but some of Keras's classes accept only 2.0.
        is_float = isinstance(arguments[option].default, float) and type(value) is int
        yield option, float(value) if is_float else value


def _arguments(kind: type[Any]) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(kind.__init__).parameters)
    own = {name: parameters[name] for name in parameters if name not in ("self", "name", "kwargs", *_COMMON)}
    return {**own, **{name: parameters[name] for name in _COMMON if name in parameters}}


@cache
def _classes(*, is_metric: bool) -> dict[str, type[Any]]:
    module, base = (keras.metrics, keras.metrics.Metric) if is_metric else (keras.losses, keras.losses.Loss)
    kinds = {
        name: kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, base) and name not in _BASES
    }
    aliases = {**_ALIASES, **(_METRICS_ALIASES if is_metric else {})}
    named = {alias: kinds[name] for alias, name in aliases.items() if name in kinds}
    return {**named, **{_plain(name): kind for name, kind in kinds.items()}}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter not in "_- ")
