"""What a study file sets and nothing reads: misspelt names, and settings that do nothing beside the others.

A worker has told which names the builder and the callbacks ask for. What training reads is known from the vocabulary.
Nothing here imports keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from search.errors import StudyFileError, UsageError
from search.reading.studytext import StudyText
from search.spec import sources
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
from spaces import Choice

_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
# More names than these are not listed.
_SHOWN = 12


@dataclass(frozen=True)
class Unused:
    """Something that a study file sets and that does nothing.

    Attributes:
        key: where it stands, dotted.
        why: for people.
        is_certain: False where a branch that was not looked at may read it.
    """

    key: str
    why: str
    is_certain: bool = True

    def __str__(self) -> str:
        return f"{self.key}: {self.why}"


def find(file: StudyFile, ready: Ready) -> list[Unused]:
    """Return what nothing reads, in the order of the file's sections; each thing once."""
    return list(_Looked(file, ready).all())


def refuse(file: StudyFile, unused: list[Unused]) -> None:
    """Raise UsageError for what certainly does nothing: a new study would search or fix it in vain."""
    certain = [one for one in unused if one.is_certain]
    if certain:
        lines = [str(_error(file, one)) for one in certain]
        raise UsageError(
            "\n".join([*lines, "nothing was started; mend the file, or add --allow-unused to go on as it is"])
        )


def _error(file: StudyFile, one: Unused) -> UsageError:
    try:
        return StudyText.read(file.path).error(one.key, one.why)
    except StudyFileError:
        # Of a study that is named by its database the file may be gone.
        return UsageError(str(one))


@dataclass(frozen=True)
class _Looked:
    file: StudyFile
    ready: Ready

    def all(self) -> Iterator[Unused]:
        settings = self.file.settings
        for name in settings.model.arguments:
            yield from self._argument(name)
        for name in settings.train.model_fields_set & {"optimizer", "loss", "metrics"}:
            if self.ready.compiles_itself and name not in self.ready.read and getattr(settings.train, name) is not None:
                yield Unused(f"train.{name}", self._compiled(name, is_searched=False))
        for name in settings.train.numbers:
            if why := self._training(name):
                yield Unused(f"train.{name}", why)
        for name in self.file.space:
            yield from self._parameter(name)
        yield from self._settings()

    # -- the builder's ------------------------------------------------------------------------------------------------

    def _argument(self, name: str) -> Iterator[Unused]:
        train = self.file.settings.train
        if name in ("optimizer", "batch_size", "epochs") or name in train.numbers:
            home = "study" if name == "epochs" else "train"
            yield Unused(f"model.{name}", f"[{home}] has the last word on {name}; write it there, and only there")
        elif name in TRAIN_NUMBERS:
            if why := self._training(name):
                yield Unused(f"model.{name}", why)
        elif name not in self.ready.read and "parameters" in self.ready.model:
            yield Unused(f"model.{name}", f"nothing reads it: {self._reads(name)}", self._is_certain(name))

    def _parameter(self, name: str) -> Iterator[Unused]:
        if name in self.ready.undrawn or "parameters" not in self.ready.model:
            return  # no model could be built with it
        if name in TRAIN_PARAMETERS:
            if why := self._training(name, is_searched=True):
                yield Unused(f"space.{name}", f"parameter {name!r} is read by nothing: {why}")
            elif why := self._read_by_some(name):
                yield Unused(f"space.{name}", why, is_certain=False)
        elif name not in self.ready.read:
            why = f"parameter {name!r} is read by nothing: neither by training nor by the builder; {self._reads(name)}"
            yield Unused(f"space.{name}", why, self._is_certain(name))

    def _reads(self, name: str) -> str:
        asked = [read for read in self.ready.read if read not in TRAIN_PARAMETERS]
        shown = ", ".join(asked[:_SHOWN]) + (" ..." if len(asked) > _SHOWN else "")
        known = {*asked, *TRAIN_PARAMETERS} - {name}
        return f"{self.file.settings.model.build} reads {shown or 'nothing of its own'}{closest(name, known)}"

    def _is_certain(self, name: str) -> bool:
        if self.file.builder is None and not self.file.settings.train.callbacks:
            return True
        # Its name in the code: a branch may read it that the configs in the middle of the space do not reach.
        return not self.ready.undrawn and not sources.says(self.file.settings, self.file.base, name)

    # -- training's ---------------------------------------------------------------------------------------------------

    def _training(self, name: str, *, is_searched: bool = False) -> str:
        """Say why training does not read the number `name`, or ""."""
        if name in self.ready.read or name in ("batch_size", "epochs"):
            return ""
        if self.ready.compiles_itself:
            return self._compiled(name, is_searched=is_searched)
        if name == "label_smoothing":
            return self._smoothing()
        if name in SCHEDULE_NUMBERS:
            return self._schedule(name)
        if name != "optimizer" and not self._takers(name):
            takers = [known.lower() for known in OPTIMIZERS if name in optimizer_arguments(known)]
            return f"{_and(self._optimizers(name))} has no {name}; {_and(takers)} read it"
        return _BESIDE[name](self) if name in _BESIDE else ""

    def _compiled(self, name: str, *, is_searched: bool) -> str:
        build, what = self.file.settings.model.build, "search" if is_searched else "fix"
        if name in ("loss", "metrics"):
            return f"does nothing: the builder {build} compiles its model itself; give the {name} to its compile()"
        return (
            f"the builder {build} compiles its model itself and does not read it; to {what} it, read config[{name!r}] "
            "there"
        )

    def _smoothing(self) -> str:
        if self.file.settings.train.loss is not None:
            return (
                "label_smoothing is for the task's own loss, and train.loss names another; "
                'write it there: loss = { name = "CategoricalCrossentropy", label_smoothing = 0.1 }, say'
            )
        if self.ready.data.get("task") == "regression":
            return "label_smoothing is for classes, and the task is regression"
        return ""

    def _schedule(self, name: str) -> str:
        if name == "end_factor" and not self._may_be("schedule", lambda schedule: schedule != "constant"):
            return 'end_factor has no effect without a schedule; add schedule = "cosine", say'
        return ""

    def _ema(self, name: str) -> str:
        if name == "use_ema":
            if self._may_be("use_ema", bool) and not self._is_given("ema_overwrite_frequency"):
                return (
                    "use_ema alone changes no epoch: Keras puts the averages into the weights every "
                    "ema_overwrite_frequency steps; add ema_overwrite_frequency = 100, say"
                )
            return ""
        if not self._may_be("use_ema", bool):
            return f"{name} has no effect without use_ema = true"
        if name == "ema_momentum" and not self._is_given("ema_overwrite_frequency"):
            return "ema_momentum has no effect without ema_overwrite_frequency; add ema_overwrite_frequency = 100, say"
        return self._too_long(name, "the averages never get into the weights")

    def _too_long(self, name: str, what: str) -> str:
        least = min(filter(_is_number, self._values(name)), default=0)
        if self.ready.steps and least > self.ready.steps:
            return f"{name} = {least} is more than the {self.ready.steps} steps of a whole training: {what}"
        return ""

    def _clip(self, name: str) -> str:
        others = [other for other in _CLIPS if other != name and self._is_given(other) and not self._when(other)]
        return f"Keras takes only one of {', '.join(_CLIPS)}; {_and(others)} is there, too" if others else ""

    def _nesterov(self) -> str:
        if self._may_be("nesterov", bool) and not self._may_be("momentum", lambda value: value != 0):
            return "nesterov has no effect without momentum"
        return ""

    def _loss_scale(self) -> str:
        if self.file.settings.run.precision in ("auto", "float32"):
            return "loss_scale_factor has no effect in float32: Keras divides the gradients by it again"
        return ""

    def _relative_step(self) -> str:
        # Keras 3.15, optimizers/adafactor.py, update_step.
        return "Keras's adafactor takes the smaller of learning_rate and 1 / sqrt(step) either way"

    def _read_by_some(self, name: str) -> str:
        if name not in TRAIN_NUMBERS or self._when(name) or self.ready.compiles_itself or name in self.ready.read:
            return ""
        takers, optimizers = self._takers(name), self._optimizers(name)
        if name in ("label_smoothing", *SCHEDULE_NUMBERS) or len(takers) == len(optimizers):
            return ""
        return (
            f"parameter {name!r} is read by {', '.join(takers)} only; "
            f'add when = {{ optimizer = "{takers[0]}" }} to draw it only there'
        )

    # -- what is given ------------------------------------------------------------------------------------------------

    def _values(self, name: str) -> list[Any]:
        """Return what training may get as `name`: what is fixed, or the choices or ends of what is searched."""
        settings, parameter = self.file.settings, self.file.space.get(name)
        if parameter is None:
            given = {**settings.model.arguments, **settings.train.numbers}
            return [given[name]] if name in given else []
        return list(parameter.choices) if isinstance(parameter, Choice) else [parameter.low, parameter.high]

    def _is_given(self, name: str) -> bool:
        return bool(self._values(name))

    def _may_be(self, name: str, is_such: Callable[[Any], Any]) -> bool:
        return any(is_such(value) for value in self._values(name))

    def _when(self, name: str) -> Any:
        parameter = self.file.space.get(name)
        return parameter.when if parameter is not None else {}

    def _optimizers(self, name: str) -> list[str]:
        """Return the optimizers that may be there when `name` is."""
        searched = self.file.space.get("optimizer")
        names = list(searched.choices) if isinstance(searched, Choice) else [self.file.settings.train.optimizer]
        allowed = self._when(name).get("optimizer", names)
        return [optimizer for optimizer in names if optimizer in allowed] or names

    def _takers(self, name: str) -> list[str]:
        return [optimizer for optimizer in self._optimizers(name) if name in optimizer_arguments(optimizer)]

    # -- what the other sections set ----------------------------------------------------------------------------------

    def _settings(self) -> Iterator[Unused]:
        """Yield what the budget leaves no room for: never a reason to refuse a study, for a budget may grow."""
        settings, epochs = self.file.settings, self.file.epochs
        study, search, run = settings.study, settings.search, settings.run
        found: list[tuple[str, str]] = []
        if (rule := search.early_stopping) and rule.start_from_epoch + rule.patience >= epochs:
            found.append(("search.early_stopping", f"a trial has {epochs} epochs, too few for it to stop one early"))
        for option in ("first_rung", "warmup_epochs"):
            value = search.pruner.options.get(option, 0)
            if _is_number(value) and value >= epochs:
                found.append((f"search.pruner.{option}", f"a trial has {epochs} epochs, so that none is ever pruned"))
        if search.pruner.options.get("startup_trials", 0) >= study.trials:
            found.append(("search.pruner.startup_trials", f"the study has {study.trials} trials: none is ever pruned"))
        if study.stop_after is not None and study.stop_after >= study.trials:
            found.append(("study.stop_after", f"the study has {study.trials} trials, too few for it to stop early"))
        if len(search.start) > study.trials:
            found.append(
                ("search.start", f"the study has {study.trials} trials, and {len(search.start)} configs are here")
            )
        if run.lanes != "auto" and self.ready.engine == "fit":
            found.append(("run.lanes", "the model is trained by fit, one trial at a time"))
        if "batch_size" not in self.file.space and settings.train.batch_size > self.ready.data.get("train_rows", 10**9):
            rows = self.ready.data["train_rows"]
            found.append(("train.batch_size", f"there are {rows} rows for training: every epoch is one step"))
        for key, why in found:
            yield Unused(key, why, is_certain=False)


_BESIDE: dict[str, Callable[[_Looked], str]] = {
    "use_ema": lambda looked: looked._ema("use_ema"),
    "ema_momentum": lambda looked: looked._ema("ema_momentum"),
    "ema_overwrite_frequency": lambda looked: looked._ema("ema_overwrite_frequency"),
    "gradient_accumulation_steps": lambda looked: looked._too_long(
        "gradient_accumulation_steps", "the weights never change"
    ),
    **{name: lambda looked, name=name: looked._clip(name) for name in _CLIPS},  # type: ignore[misc]
    "nesterov": _Looked._nesterov,
    "loss_scale_factor": _Looked._loss_scale,
    "relative_step": _Looked._relative_step,
}
"""Numbers that an optimizer takes and that still do nothing, depending on what stands beside them."""


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
