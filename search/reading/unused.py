"""Find settings of a study file without effect: nothing reads them, or other settings switch them off.

A worker reports which names the builder and the callbacks read. The vocabulary lists what training reads.
Nothing here imports keras.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.errors import StudyFileError, UsageError
from search.policies.pruners import PATIENCE
from search.reading.studytext import StudyText
from search.spec import code_files, keras_callbacks
from search.spec.ready import Ready
from search.spec.study import StudyFile
from search.spec.vocabulary import (
    OPTIMIZERS,
    SCHEDULE_NUMBERS,
    TRAIN_NUMBERS,
    TRAIN_PARAMETERS,
    closest,
    optimizer_arguments,
)
from spaces import Choice, Float

_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
# A message lists at most this many names.
_MAX_NAMES = 12


@dataclass(frozen=True)
class Unused:
    """A setting of a study file that has no effect.

    Attributes:
        key: the dotted key.
        why: the reason, for people.
        is_certain: False if code that was not run may read it, if a larger budget would give it an effect, or if it is
            harmless: then it is a warning, and no new study is refused.
    """

    key: str
    why: str
    is_certain: bool = True

    def __str__(self) -> str:
        return f"{self.key}: {self.why}"


def find(file: StudyFile, ready: Ready) -> list[Unused]:
    """Return the settings without effect, each once, in the order of the file's sections."""
    return list(_Inspection(file, ready).all())


def refuse(file: StudyFile, unused: list[Unused]) -> None:
    """Raise UsageError for settings that certainly have no effect: a new study would search or fix them in vain."""
    certain = [setting for setting in unused if setting.is_certain]
    if certain:
        lines = [str(_error(file, setting)) for setting in certain]
        raise UsageError(
            "\n".join([*lines, "nothing was started; mend the file, or add --allow-unused to go on as it is"])
        )


def _error(file: StudyFile, setting: Unused) -> UsageError:
    try:
        return StudyText.read(file.path).error(setting.key, setting.why)
    except StudyFileError:
        # A study that is named by its database may have lost its file.
        return UsageError(str(setting))


@dataclass(frozen=True)
class _Inspection:
    file: StudyFile
    ready: Ready

    def all(self) -> Iterator[Unused]:
        settings = self.file.settings
        for name in settings.model.arguments:
            yield from self._check_argument(name)
        for name in settings.train.model_fields_set & {"optimizer", "loss", "metrics", "loss_weights"}:
            if self.ready.compiles_itself and name not in self.ready.read and getattr(settings.train, name) is not None:
                yield Unused(f"train.{name}", self._compiled_reason(name, is_searched=False))
        for name in settings.train.numbers:
            if why := self._training_reason(name):
                yield Unused(f"train.{name}", why)
        for name in self.file.space:
            yield from self._check_parameter(name)
        yield from self._check_data()
        yield from self._check_budget()
        yield from self._check_search()

    # -- read by the builder ------------------------------------------------------------------------------------------

    def _check_argument(self, name: str) -> Iterator[Unused]:
        train = self.file.settings.train
        if name in ("optimizer", "batch_size", "epochs") or name in train.numbers:
            home = "study" if name == "epochs" else "train"
            yield Unused(f"model.{name}", f"[{home}] has the last word on {name}; write it there, and only there")
        elif name in TRAIN_NUMBERS:
            if why := self._training_reason(name):
                yield Unused(f"model.{name}", why)
        elif name not in self.ready.read and "parameters" in self.ready.model:
            yield Unused(f"model.{name}", f"nothing reads it: {self._names_read(name)}", self._is_certain(name))

    def _check_parameter(self, name: str) -> Iterator[Unused]:
        if name in self.ready.undrawn or "parameters" not in self.ready.model:
            return  # no model was built with it, so whether the builder reads it is unknown
        if name in TRAIN_PARAMETERS:
            if why := self._training_reason(name, is_searched=True):
                yield Unused(f"space.{name}", f"parameter {name!r} is read by nothing: {why}")
            elif why := self._partial_reason(name):
                yield Unused(f"space.{name}", why, is_certain=False)
        elif name not in self.ready.read:
            why = f"parameter {name!r} is read by nothing: neither by training nor by the builder; {self._names_read(name)}"
            yield Unused(f"space.{name}", why, self._is_certain(name))

    def _names_read(self, name: str) -> str:
        own = [read for read in self.ready.read if read not in TRAIN_PARAMETERS]
        shown = ", ".join(own[:_MAX_NAMES]) + (" ..." if len(own) > _MAX_NAMES else "")
        known = {*own, *TRAIN_PARAMETERS} - {name}
        return f"{self.file.settings.model.build} reads {shown or 'nothing of its own'}{closest(name, known)}"

    def _is_certain(self, name: str) -> bool:
        if self.file.builder is None and not keras_callbacks.have_user_code(self.file.settings.train.callbacks):
            return True
        # If the code has the name as a text, a branch that the tried configs did not reach may read it.
        texts = () if self.file.given is None else self.file.given.texts
        return not (
            self.ready.undrawn
            or code_files.mentions(self.file.settings, self.file.base, name)
            or any(code_files.mentioned(text, name) for text in texts)
        )

    # -- read by training ---------------------------------------------------------------------------------------------

    def _training_reason(self, name: str, *, is_searched: bool = False) -> str:
        """Return why training does not read the number `name`; "" if it does."""
        if name in self.ready.read or name in ("batch_size", "epochs"):
            return ""
        if self.ready.compiles_itself:
            return self._compiled_reason(name, is_searched=is_searched)
        if name == "label_smoothing":
            return self._smoothing_reason()
        if name in SCHEDULE_NUMBERS:
            return self._schedule_reason(name)
        if name != "optimizer" and not self._readers(name):
            readers = [known.lower() for known in OPTIMIZERS if name in optimizer_arguments(known)]
            return f"{_joined(self._optimizers(name))} has no {name}; {_joined(readers)} read it"
        return _NO_EFFECT_REASONS[name](self) if name in _NO_EFFECT_REASONS else ""

    def _compiled_reason(self, name: str, *, is_searched: bool) -> str:
        build, verb = self.file.settings.model.build, "search" if is_searched else "fix"
        if name in ("loss", "metrics", "loss_weights"):
            return f"does nothing: the builder {build} compiles its model itself; give the {name} to its compile()"
        return (
            f"the builder {build} compiles its model itself and does not read it; to {verb} it, read config[{name!r}] "
            "there"
        )

    def _smoothing_reason(self) -> str:
        if self.file.settings.train.loss is not None:
            return (
                "label_smoothing is for the task's own loss, and train.loss names another; "
                'write it there: loss = { name = "CategoricalCrossentropy", label_smoothing = 0.1 }, say'
            )
        targets = self.ready.data.get("targets") or {"": self.ready.data}
        if all(target.get("task") == "regression" for target in targets.values()):
            return "label_smoothing is for classes, and the task is regression"
        return ""

    def _schedule_reason(self, name: str) -> str:
        if name == "end_factor" and not self._can_be("schedule", lambda schedule: schedule != "constant"):
            return 'end_factor has no effect without a schedule; add schedule = "cosine", say'
        return ""

    def _ema_reason(self, name: str) -> str:
        # A callback may put the averages into the weights, as Keras's SwapEMAWeights does.
        is_used = self._is_given("ema_overwrite_frequency") or keras_callbacks.swap_averages(
            self.file.settings.train.callbacks
        )
        if name == "use_ema":
            if self._can_be("use_ema", bool) and not is_used:
                return (
                    "use_ema alone changes no epoch: Keras puts the averages into the weights every "
                    "ema_overwrite_frequency steps; add ema_overwrite_frequency = 100, say"
                )
            return ""
        if not self._can_be("use_ema", bool):
            return f"{name} has no effect without use_ema = true"
        if name == "ema_momentum":
            advice = (
                "ema_momentum has no effect without ema_overwrite_frequency; add ema_overwrite_frequency = 100, say"
            )
            return "" if is_used else advice
        return self._too_long_reason(name, "the averages never get into the weights")

    def _too_long_reason(self, name: str, what: str) -> str:
        smallest = min(filter(_is_number, self._values(name)), default=0)
        if self.ready.steps and smallest > self.ready.steps:
            return f"{name} = {smallest} is more than the {self.ready.steps} steps of a whole training: {what}"
        return ""

    def _clip_reason(self, name: str) -> str:
        others = [other for other in _CLIPS if other != name and self._is_given(other) and not self._conditions(other)]
        return f"Keras takes only one of {', '.join(_CLIPS)}; {_joined(others)} is there, too" if others else ""

    def _nesterov_reason(self) -> str:
        if self._can_be("nesterov", bool) and not self._can_be("momentum", lambda value: value != 0):
            return "nesterov has no effect without momentum"
        return ""

    def _loss_scale_reason(self) -> str:
        if self.file.settings.run.precision in ("auto", "float32"):
            return "loss_scale_factor has no effect in float32: Keras divides the gradients by it again"
        return ""

    def _relative_step_reason(self) -> str:
        # Keras 3.15, optimizers/adafactor.py, update_step.
        return "Keras's adafactor takes the smaller of learning_rate and 1 / sqrt(step) either way"

    def _partial_reason(self, name: str) -> str:
        if name not in TRAIN_NUMBERS or self._conditions(name) or self.ready.compiles_itself or name in self.ready.read:
            return ""
        readers, optimizers = self._readers(name), self._optimizers(name)
        if name in ("label_smoothing", *SCHEDULE_NUMBERS) or len(readers) == len(optimizers):
            return ""
        return (
            f"parameter {name!r} is read by {', '.join(readers)} only; "
            f'add when = {{ optimizer = "{readers[0]}" }} to draw it only there'
        )

    # -- values and conditions ----------------------------------------------------------------------------------------

    def _values(self, name: str) -> list[Any]:
        """Return the values that training may get as `name`: the fixed one, all choices, or both ends of a range."""
        settings, parameter = self.file.settings, self.file.space.get(name)
        if parameter is None:
            fixed = {**settings.model.arguments, **settings.train.numbers}
            return [fixed[name]] if name in fixed else []
        return list(parameter.choices) if isinstance(parameter, Choice) else [parameter.low, parameter.high]

    def _is_given(self, name: str) -> bool:
        return bool(self._values(name))

    def _can_be(self, name: str, predicate: Callable[[Any], Any]) -> bool:
        return any(predicate(value) for value in self._values(name))

    def _conditions(self, name: str) -> Any:
        parameter = self.file.space.get(name)
        return parameter.when if parameter is not None else {}

    def _optimizers(self, name: str) -> list[str]:
        """Return the optimizers that a config with `name` may have."""
        searched = self.file.space.get("optimizer")
        names = list(searched.choices) if isinstance(searched, Choice) else [self.file.settings.train.optimizer]
        allowed = self._conditions(name).get("optimizer", names)
        return [optimizer for optimizer in names if optimizer in allowed] or names

    def _readers(self, name: str) -> list[str]:
        return [optimizer for optimizer in self._optimizers(name) if name in optimizer_arguments(optimizer)]

    # -- other sections -----------------------------------------------------------------------------------------------

    def _check_budget(self) -> Iterator[Unused]:
        """Yield settings that the budget is too small for. They never refuse a study, because its budget may grow."""
        settings, epochs = self.file.settings, self.file.epochs
        study, search, run = settings.study, settings.search, settings.run
        pairs: list[tuple[str, str]] = []
        if (rule := search.early_stopping) and rule.start_from_epoch + rule.patience + 1 >= epochs:
            pairs.append(("search.early_stopping", f"a trial has {epochs} epochs, too few for it to stop one early"))
        pairs += self._idle_pruner("search.pruner", search.pruner.name, search.pruner.options)
        if study.stop_after is not None and study.stop_after >= study.trials:
            pairs.append(("study.stop_after", f"the study has {study.trials} trials, too few for it to stop early"))
        if len(search.start) > study.trials:
            pairs.append(
                ("search.start", f"the study has {study.trials} trials, and {len(search.start)} configs are here")
            )
        if search.prune_start and (not search.start or search.pruner.name == "none"):
            why = "it is for the configs of search.start" if not search.start else "the pruner is none"
            pairs.append(("search.prune_start", why))
        if search.learn_from is not None and not search.learns_from_others:
            pairs.append(("search.learn_from", f"the sampler {search.sampler.name} reads no trials of others"))
        if run.lanes != "auto" and self.ready.engine == "fit":
            pairs.append(("run.lanes", "the model is trained by fit, one trial at a time"))
        is_streamed = bool(self.ready.data.get("train_batches"))
        if is_streamed and "batch_size" in settings.train.model_fields_set | set(self.file.space):
            key = "space.batch_size" if "batch_size" in self.file.space else "train.batch_size"
            pairs.append((key, "the training rows come in batches of their own"))
        elif (
            not is_streamed
            and "batch_size" not in self.file.space
            and settings.train.batch_size > self.ready.data.get("train_rows", 10**9)
        ):
            rows = self.ready.data["train_rows"]
            pairs.append(("train.batch_size", f"there are {rows} rows for training: every epoch is one step"))
        for key, why in pairs:
            yield Unused(key, why, is_certain=False)

    def _idle_pruner(self, key: str, name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield (key, reason) for options of a pruner, and of the one it wraps, with which it can prune no trial."""
        epochs, trials = self.file.epochs, self.file.settings.study.trials
        too_short = f"a trial has {epochs} epochs, so that none is ever pruned"
        # A trial is complete after its last epoch: the last one that may prune it is the one before.
        # Option -> how many epochs later than its value a trial may first be pruned.
        earliest = {"first_rung": 0, "warmup_epochs": 1, **({"patience": 2} if name == "patient" else {})}
        given = {"patience": PATIENCE, **options}
        for option, later in earliest.items():
            value = given.get(option, math.nan)
            if _is_number(value) and value + later >= epochs:
                default = "" if option in options else f"its {option} is {value} by default; "
                yield f"{key}.{option}" if option in options else key, default + too_short
        for option, fewest in (("startup_trials", trials), ("eta", trials + 1)):
            value = options.get(option, math.nan)
            if _is_number(value) and value >= fewest:
                yield f"{key}.{option}", f"the study has {trials} trials: none is ever pruned"
        if wrapped := options.get("wrapped"):
            inner = {"name": wrapped} if isinstance(wrapped, str) else dict(wrapped)
            yield from self._idle_pruner(f"{key}.wrapped", str(inner.pop("name")), inner)

    def _check_data(self) -> Iterator[Unused]:
        """Yield the shares of splits that the source brings itself."""
        data, folds = self.file.settings.data, self.file.settings.study.folds
        if folds > 1 and data.validation != type(data).model_fields["validation"].default:
            yield Unused("data.validation", f"no effect: each of {folds} folds judges by its own rows; remove the key")
        for split in self.ready.own_splits:
            if split in data.model_fields_set:
                why = f"no effect: {data.source} has {split} rows of its own, and all of them are used; remove the key"
                yield Unused(f"data.{split}", why, is_certain=False)

    def _check_search(self) -> Iterator[Unused]:
        """Yield settings that the sampler does not need. They never refuse a study: its configs are the same without them."""
        search, space = self.file.settings.search, self.file.space
        if search.sampler.name != "grid":
            return
        if search.duplicates and not _has_twins(search.start):
            why = "no effect: the grid draws each of its configs once; only start may repeat one"
            yield Unused("search.duplicates", why, is_certain=False)
        if "points" in search.sampler.options and not any(
            isinstance(parameter, Float) and parameter.step is None for parameter in space.values()
        ):
            why = "no effect: it counts the values of a real range without a step, and the space has none"
            yield Unused("search.sampler.points", why, is_certain=False)


_NO_EFFECT_REASONS: dict[str, Callable[[_Inspection], str]] = {
    "use_ema": lambda inspection: inspection._ema_reason("use_ema"),
    "ema_momentum": lambda inspection: inspection._ema_reason("ema_momentum"),
    "ema_overwrite_frequency": lambda inspection: inspection._ema_reason("ema_overwrite_frequency"),
    "gradient_accumulation_steps": lambda inspection: inspection._too_long_reason(
        "gradient_accumulation_steps", "the weights never change"
    ),
    **{name: lambda inspection, name=name: inspection._clip_reason(name) for name in _CLIPS},  # type: ignore[misc]
    "nesterov": _Inspection._nesterov_reason,
    "loss_scale_factor": _Inspection._loss_scale_reason,
    "relative_step": _Inspection._relative_step_reason,
}
"""Numbers of an optimizer that other settings can switch off -> the function that returns the reason, or ""."""


def _has_twins(configs: Sequence[Mapping[str, Any]]) -> bool:
    return any(config in configs[:index] for index, config in enumerate(configs))


def _joined(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
