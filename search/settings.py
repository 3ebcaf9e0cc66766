"""What a study file may say, section by section: the pydantic models behind it. Nothing here imports keras or optuna."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, field_validator, model_validator

from search.vocabulary import TRAIN_NUMBERS, closest, optimizer_class

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match or not any(match.groups()):
            raise ValueError('a duration is a number of seconds or a text such as "90s", "10m", "1h30m"')
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    return value


def _named_table(value: Any) -> Any:
    """Let `sampler = "tpe"` stand for `sampler = { name = "tpe" }`."""
    return {"name": value} if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, strict=True)]


class Section(BaseModel):
    """A table of the study file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Named(BaseModel):
    """A sampler or pruner with its options; the options are checked by the room that knows them."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Return the options that stand beside the name."""
        return dict(self.model_extra or {})


class StudySection(Section):
    name: str = ""
    objective: str = "val_loss"
    direction: Literal["minimize", "maximize"] | None = None
    trials: Count = 20
    epochs: Count | None = None
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True)
    time: Seconds | None = None
    stop_after: Count | None = None

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._ +-]{0,199}", name):
            raise ValueError(
                "a name starts with a letter or digit and holds letters, digits, spaces and . _ + - "
                "(200 at most): it also names files"
            )
        return name


class DataSection(Section):
    source: str = Field(min_length=1)
    target: str | None = None
    task: Literal["classification", "binary", "regression"] | None = None
    validation: Fraction = 0.1
    test: Fraction = 0.1
    scale: Literal["none", "standard", "minmax"] = "none"
    image_size: tuple[Count, Count] | None = None
    limit: Count | None = None

    @model_validator(mode="after")
    def _something_is_left(self) -> DataSection:
        if self.validation + self.test >= 0.9:
            raise ValueError(
                f"validation and test leave less than a tenth for training; received {self.validation} + {self.test}"
            )
        if self.validation == 0:
            raise ValueError("validation must be above 0: trials are compared by it")
        return self


class ModelSection(BaseModel):
    """The builder, and whatever else stands there: its fixed arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    build: str = Field(default="mlp", min_length=1)

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the builder's fixed arguments."""
        return dict(self.model_extra or {})


class TrainSection(BaseModel):
    """What is fixed in training. Any number of the vocabulary may stand here or, as a parameter, in the space."""

    model_config = ConfigDict(extra="allow", frozen=True)
    optimizer: str = "adam"
    loss: str | dict[str, Any] | None = None
    metrics: tuple[str | dict[str, Any], ...] | None = None
    batch_size: Count = 32
    class_weight: Literal["balanced"] | dict[str, float] | None = None
    callbacks: tuple[str, ...] = ()

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        optimizer_class(name)
        return name

    @model_validator(mode="after")
    def _known_numbers(self) -> TrainSection:
        for key, value in (self.model_extra or {}).items():
            if key not in TRAIN_NUMBERS:
                raise ValueError(f"unknown key {key!r}{closest(key, [*TRAIN_NUMBERS, *type(self).model_fields])}")
            TRAIN_NUMBERS[key].check(key, value)
        return self

    @property
    def numbers(self) -> dict[str, Any]:
        """Return the optimizer's and schedule's numbers that are fixed."""
        return dict(self.model_extra or {})


class EarlyStopping(Section):
    """Keras's names: stop after `patience` epochs in which the objective got better by no more than `min_delta`."""

    patience: Count
    min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    start_from_epoch: int = Field(default=0, ge=0, strict=True)


class SearchSection(Section):
    sampler: Annotated[Named, BeforeValidator(_named_table)] = Named(name="tpe")
    pruner: Annotated[Named, BeforeValidator(_named_table)] = Named(name="halving")
    early_stopping: EarlyStopping | None = None
    start: tuple[dict[str, Any], ...] = ()


class RunSection(Section):
    engine: Literal["auto", "fit"] = "auto"
    backend: Literal["auto", "tensorflow", "jax"] = "auto"
    devices: Literal["auto"] | Count | tuple[str | int, ...] = "auto"
    storage: str = ""
    trial_time: Seconds | None = None
    worker_memory: Literal["auto"] | ByteSize = "auto"
    deterministic: bool = False

    @field_validator("devices")
    @classmethod
    def _devices_are_named(cls, devices: Any) -> Any:
        if isinstance(devices, tuple):
            for device in devices:
                if device != "cpu" and (isinstance(device, str) or device < 0):
                    raise ValueError('a device is the number of a GPU, such as 0, or "cpu"')
            if not devices:
                raise ValueError("devices must name at least one")
        return devices


class Settings(BaseModel):
    """A whole study file after its defaults: what is stored with the study and what a worker is sent.

    `space` stays the plain table of the file (presets resolved); `search.studyfile.Study` holds it parsed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    study: StudySection = StudySection()
    data: DataSection
    model: ModelSection = ModelSection()
    train: TrainSection = TrainSection()
    space: dict[str, Any] = Field(default_factory=dict)
    search: SearchSection = SearchSection()
    run: RunSection = RunSection()
