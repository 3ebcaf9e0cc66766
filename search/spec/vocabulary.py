"""The names of Keras that a study file may use, known without importing Keras.

`tests/engines/test_vocabulary.py` compares these tables with the installed Keras.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from search.spec import synonyms
from spaces import is_number, shown

# The arguments that every Keras 3.15 optimizer takes, beside the learning rate.
_COMMON = (
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)

OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "Adadelta": ("rho", "epsilon"),
    "Adafactor": ("beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold", "relative_step"),
    "Adagrad": ("initial_accumulator_value", "epsilon"),
    "Adam": ("beta_1", "beta_2", "epsilon", "amsgrad"),
    "AdamW": ("beta_1", "beta_2", "epsilon", "amsgrad"),
    "Adamax": ("beta_1", "beta_2", "epsilon"),
    "Ftrl": (
        "learning_rate_power",
        "initial_accumulator_value",
        "l1_regularization_strength",
        "l2_regularization_strength",
        "l2_shrinkage_regularization_strength",
        "beta",
    ),
    "Lamb": ("beta_1", "beta_2", "epsilon"),
    "Lion": ("beta_1", "beta_2"),
    "Nadam": ("beta_1", "beta_2", "epsilon"),
    "RMSprop": ("rho", "momentum", "epsilon", "centered"),
    "SGD": ("momentum", "nesterov"),
    "ScheduleFreeAdamW": ("beta_1", "beta_2", "epsilon", "warmup_steps"),
}

SCHEDULES = ("constant", "cosine", "linear", "exponential")
SCHEDULE_NUMBERS = ("schedule", "warmup", "end_factor")


@dataclass(frozen=True, slots=True)
class Rule:
    """The valid values of a number of training: its type, and bounds that hold for every optimizer."""

    kind: type[bool] | type[int] | type[float] | type[str]
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, key: str, value: Any) -> None:
        """Raise ValueError if `value` is not valid for `key`."""
        if self.kind is str:
            if value not in self.choices:
                hint = closest(value, self.choices) if isinstance(value, str) else ""
                raise ValueError(f"{key} must be one of {', '.join(self.choices)}; received {shown(value)}{hint}")
            return
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{key} is true or false; received {shown(value)}")
            return
        if not is_number(value):
            raise ValueError(f"{key} must be a number; received {shown(value)}")
        if self.kind is int and not isinstance(value, int):
            raise ValueError(f"{key} must be a whole number; received {shown(value)}")
        if not self.low <= value <= self.high:
            raise ValueError(f"{key} must be {self._bounds()}; received {shown(value)}")

    def _bounds(self) -> str:
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"at most {self.high:g}" if self.low == -math.inf else f"in {self.low:g}..{self.high:g}"


_FLAG = Rule(bool)
_SHARE = Rule(float, 0, 1)
_SPECIAL_RULES: dict[str, Rule] = {
    **dict.fromkeys(("amsgrad", "centered", "nesterov", "use_ema", "relative_step"), _FLAG),
    **dict.fromkeys(("beta_1", "beta_2", "rho", "momentum", "ema_momentum"), _SHARE),
    "ema_overwrite_frequency": Rule(int, low=1),
    "gradient_accumulation_steps": Rule(int, low=2),
    "warmup_steps": Rule(int, low=0),
    "learning_rate_power": Rule(float, high=0),
    "beta_2_decay": Rule(float),
}

TRAIN_NUMBERS: dict[str, Rule] = {
    "learning_rate": Rule(float, low=0),
    **{name: Rule(float, low=0) for names in (_COMMON, *OPTIMIZERS.values()) for name in names},
    **_SPECIAL_RULES,
    "label_smoothing": _SHARE,
    "schedule": Rule(str, choices=SCHEDULES),
    "warmup": _SHARE,
    "end_factor": _SHARE,
}
"""Every number, flag and schedule of training: fixed in [train] or searched in [space]."""

TRAIN_PARAMETERS = frozenset(TRAIN_NUMBERS) | {"optimizer", "batch_size", "epochs"}
"""The parameters that training reads itself; the builder reads all others."""

_MAXIMIZED = (
    "accuracy", "acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "r2", "cosine_similarity", "hits", "correlation",
    "io_u", "dice", "sensitivity", "specificity", "auroc", "auprc",
)  # fmt: skip
_MINIMIZED = (
    "loss", "error", "mae", "mse", "mape", "msle", "rmse", "crossentropy", "cross_entropy", "divergence", "hinge", "poisson",
    "logcosh", "log_cosh",
)  # fmt: skip
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")


def direction_of(objective: str) -> str | None:
    """Return "maximize" or "minimize" if a word in the name of the metric implies it, else None.

    A word counts if it is a known one ("auc"), one with a number or "score" behind it ("auc_1", "f1score"), or one that ends
    in a known one of four letters or more ("myloss"): "account" is not an accuracy.
    """
    name = "_".join(_WORD_START.split(objective.removeprefix("val_"))).lower()
    return _direction(lambda part: _has_word(name, part))


def direction_in_use(given: str | None, objective: str) -> str:
    """Return "maximize" or "minimize": what a study gives, or what the objective's name implies.

    Versions before 0.3 went by letters inside of words, too; a study that began with them goes on in that direction. New
    studies whose direction is not implied are refused.
    """
    name = objective.removeprefix("val_").lower()
    return given or direction_of(objective) or _direction(lambda part: part in name) or "minimize"


def _has_word(name: str, part: str) -> bool:
    inside = "[a-z0-9]*" if len(part) >= len("loss") else ""
    return re.search(rf"(?:^|_){inside}{part}(?:score)?[0-9]*(?:_|$)", name) is not None


def _direction(holds: Callable[[str], bool]) -> str | None:
    # A name with parts of both lists implies no direction.
    up, down = any(map(holds, _MAXIMIZED)), any(map(holds, _MINIMIZED))
    return None if up == down else "maximize" if up else "minimize"


def optimizer_class(name: str) -> str:
    """Return the Keras class of the optimizer `name` (in any case); ValueError if it is unknown."""
    for known in OPTIMIZERS:
        if known.lower() == name.lower():
            return known
    names = [known.lower() for known in OPTIMIZERS]
    raise ValueError(f"no such optimizer: {name!r}{closest(name.lower(), names)}; there are {', '.join(names)}")


def optimizer_arguments(name: str) -> tuple[str, ...]:
    """Return the numbers that the optimizer `name` takes."""
    return ("learning_rate", *_COMMON, *OPTIMIZERS[optimizer_class(name)])


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return '; did you mean ...?' for a misspelt name or a synonym of a known one; else "".

    `cutoff` is the least similarity of a misspelt name, in 0..1, as `difflib` measures it.
    """
    names = list(known)
    if meant := synonyms.known_name(name, names):
        why = synonyms.reason(name)
        return f"; did you mean {meant!r}?" + (f" ({why})" if why else "")
    if why := synonyms.value_absence_reason(name):
        return f"; {why}"
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def closest_of_kinds(name: str, known: Iterable[str], kind: str, others: Iterable[str]) -> str:
    """Return the hint for an unknown `name` among `known`, as `closest` does.

    If it is a name or a synonym among `others`, names of another `kind` (a setting of [search]), say so.
    """
    others = [other for other in others if other != "none"]
    known = list(known)
    meant = name if name in others else None
    if meant is None and not synonyms.known_name(name, known):
        meant = synonyms.known_name(name, others)
    if meant is None:
        return closest(name, known)
    return f'; {meant!r} is a {kind} here: write {kind} = "{meant}"'
