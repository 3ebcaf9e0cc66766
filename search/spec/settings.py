"""The sections of a study file, as pydantic models. Nothing here imports keras or optuna."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from search.spec import values
from search.spec.names import checked_name
from search.spec.vocabulary import optimizer_class

# For a study that neither fixes nor searches its epochs.
DEFAULT_EPOCHS = 20
# Far more than any training reaches: a higher number is a slip.
MOST_EPOCHS = 10**8
MOST_REPEATS = 1000
MOST_FOLDS = 100


Whole = Annotated[int, Field(strict=True)]
Count = Annotated[Whole, Field(ge=1)]
Seed = Annotated[Whole, Field(ge=0, lt=2**63)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Fraction = Annotated[Real, Field(ge=0, lt=1)]
Seconds = Annotated[float, BeforeValidator(values.seconds)]
Plain = Annotated[Any, BeforeValidator(values.plain)]
Task = Literal["classification", "binary", "regression"]


class Section(BaseModel):
    """A table of the study file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Named(BaseModel):
    """A sampler or pruner with its options; the sampler or pruner checks its own options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Plain] = Field(init=False)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Return the options beside the name."""
        return dict(self.model_extra or {})


class StudySection(Section):
    name: str = ""
    objective: Annotated[str, BeforeValidator(values.objective)] = "val_loss"
    direction: Literal["minimize", "maximize"] | None = None
    trials: Count = 20
    epochs: Annotated[Count, Field(le=MOST_EPOCHS)] | None = None
    seed: Seed = 0
    time: Seconds | None = None
    stop_after: Count | None = None
    repeats: Annotated[Count, Field(le=MOST_REPEATS)] = 1
    folds: Annotated[Count, Field(le=MOST_FOLDS)] = 1
    # Absent in every study but those of `manyfit confirm`, as in studies of earlier versions.
    confirms: tuple[Annotated[Whole, Field(ge=0)], ...] = Field(default=(), exclude_if=lambda numbers: not numbers)

    @property
    def trainings(self) -> int:
        """How many members the study's trials have."""
        return self.trials * self.replicas

    @property
    def replicas(self) -> int:
        """How many trainings a trial has."""
        return max(self.repeats, self.folds)

    @property
    def replica(self) -> str:
        """What one of several trainings of a trial is called."""
        return "fold" if self.folds > 1 else "repeat"

    @model_validator(mode="after")
    def _repeats_or_folds(self) -> StudySection:
        if self.repeats > 1 and self.folds > 1:
            raise ValueError(
                f"repeats and folds both train a config several times; received repeats = {self.repeats} and folds = "
                f"{self.folds}; keep one of them"
            )
        return self

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        return name and checked_name(name)


class Columns(Section):
    """What the columns of a table are, where the guess is wrong."""

    drop: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    date: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Columns:
        names = [name for listed in self.by_kind().values() for name in listed]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"columns names {twice!r} twice; a column has one kind")
        return self

    def by_kind(self) -> dict[str, tuple[str, ...]]:
        """Return the named columns by "drop" or kind."""
        return {kind: getattr(self, kind) for kind in type(self).model_fields}

    def kind_of(self) -> dict[str, str]:
        """Return the kind of each named column that is kept."""
        return {name: kind for kind, listed in self.by_kind().items() if kind != "drop" for name in listed}


def _encoding(value: object) -> object:
    """Return Python's own name of an encoding of texts; None for UTF-8, which is the default."""
    if not isinstance(value, str):
        return value
    try:
        codec = codecs.lookup(value)
        "".encode(value)  # LookupError for codecs of Python that do not encode texts
    except LookupError:
        raise ValueError(
            f'no such encoding of texts: {value!r}; there are "utf-8", "latin-1", "cp1252", "utf-16", "shift_jis" and all '
            "others of Python"
        ) from None
    return None if codec.name in ("utf-8", "utf-8-sig") else codec.name


class Text(Section):
    """How arrays of texts become numbers; the keys are those of keras.layers.TextVectorization."""

    output_mode: Literal["int", "multi_hot", "count", "tf_idf"] = "int"
    max_tokens: Annotated[Count, Field(ge=3)] = 20_000
    output_sequence_length: Count | None = None

    @model_validator(mode="after")
    def _length_is_of_ids(self) -> Text:
        if self.output_sequence_length is not None and self.output_mode != "int":
            raise ValueError(
                f'output_sequence_length is for output_mode = "int"; "{self.output_mode}" has a number for each word: '
                "remove it"
            )
        return self


class DataSection(Section):
    source: str = Field(min_length=1)
    target: str | None = None
    task: Task | dict[str, Task] | None = None
    validation: Annotated[Fraction, Field(gt=0)] = 0.1
    test: Fraction = 0.1
    columns: Columns | None = None
    encoding: Annotated[str | None, BeforeValidator(_encoding)] = None
    text: Text | None = None
    scale: Literal["auto", "none", "standard", "minmax"] = "auto"
    image_size: Annotated[tuple[int, int] | None, BeforeValidator(values.image_size)] = None
    exif: Flag = True
    lazy: Flag = False
    limit: Count | None = None
    seed: Seed = 0
    group: Annotated[str, Field(min_length=1)] | None = None
    order: Annotated[str, Field(min_length=1)] | None = None
    split: Annotated[str, Field(min_length=1)] | None = None
    window: Count | None = None
    horizon: Count = 1
    stride: Count = 1

    @model_validator(mode="after")
    def _something_is_left(self) -> DataSection:
        if self.validation + self.test >= 0.9:
            raise ValueError(
                f"validation and test leave less than a tenth for training; received {self.validation} + {self.test}"
            )
        return self

    @model_validator(mode="after")
    def _roles_differ(self) -> DataSection:
        named = [(role, name) for role in ("group", "order", "split") if (name := getattr(self, role)) is not None]
        for number, (role, name) in enumerate(named):
            if twin := next((other for other, same in named[:number] if same == name), ""):
                raise ValueError(f"{twin} and {role} name the same column {name!r}; remove one of them")
        if self.group is not None and self.order is not None and self.window is None:
            raise ValueError(
                "group and order both say how rows are split; keep group for whole groups by chance, or order for the last "
                "rows"
            )
        return self

    @model_validator(mode="after")
    def _steps_are_of_windows(self) -> DataSection:
        # A stored study has every key: only other values than the defaults say anything.
        key = "horizon" if self.horizon != 1 else "stride" if self.stride != 1 else ""
        if self.window is None and key:
            raise ValueError(f"{key} is for windows over a series; add window = 24, say, or remove {key}")
        return self


def as_begun(sections: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return the stored sections of a study, with what keys that they lack did before they were there.

    Args:
        seed: of the study, by which its data were split.
    """
    before: dict[str, dict[str, Any]] = {
        "data": {"seed": seed, "exif": False},
        "search": {"prune_start": True, "learn_from": None, "candidates": ()},
    }
    return {**sections, **{name: {**keys, **sections.get(name, {})} for name, keys in before.items()}}


class ModelSection(BaseModel):
    """The builder; every other key is one of its fixed arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Plain] = Field(init=False)
    build: str = Field(default="mlp", min_length=1)

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the builder's fixed arguments."""
        return dict(self.model_extra or {})


class TrainSection(BaseModel):
    """The fixed settings of training. Any number of the vocabulary may be fixed here or searched in the space."""

    model_config = ConfigDict(extra="allow", frozen=True)
    optimizer: str = "adam"
    loss: Annotated[str | dict[str, Plain] | None, BeforeValidator(values.loss)] = None
    metrics: Annotated[
        tuple[str | dict[str, Plain], ...] | dict[str, tuple[str | dict[str, Plain], ...]] | None,
        BeforeValidator(values.metrics),
    ] = None
    loss_weights: Annotated[dict[str, float] | None, BeforeValidator(values.loss_weights)] = None
    batch_size: Count = 32
    class_weight: Annotated[Literal["balanced"] | dict[str, float] | None, BeforeValidator(values.class_weight)] = None
    callbacks: Annotated[tuple[str | dict[str, Plain], ...], BeforeValidator(values.callbacks)] = ()

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        optimizer_class(name)
        return name

    @property
    def losses(self) -> dict[str, Any]:
        """Return the losses that are named, by output; "" is for all outputs."""
        if self.loss is None:
            return {}
        return dict(self.loss) if values.is_by_output(self.loss) and isinstance(self.loss, dict) else {"": self.loss}

    @property
    def metrics_by_output(self) -> dict[str, tuple[str | dict[str, Any], ...]] | None:
        """Return the metrics that are named, by output; "" is for all outputs. None if none are named."""
        return self.metrics if self.metrics is None or isinstance(self.metrics, dict) else {"": self.metrics}

    def of_output(self, output: str) -> list[tuple[str, Any]]:
        """Return (key, entry) of the losses and metrics that are named for an output."""
        metrics = self.metrics_by_output or {}
        named = [("train.loss", self.losses.get(output, self.losses.get("")))]
        named += [("train.metrics", entry) for entry in metrics.get(output, metrics.get("", ()))]
        return [(key, entry) for key, entry in named if entry is not None]

    @property
    def objects(self) -> list[str | dict[str, Any]]:
        """Return all losses and metrics that are named."""
        return [
            *self.losses.values(),
            *(entry for entries in (self.metrics_by_output or {}).values() for entry in entries),
        ]

    @property
    def numbers(self) -> dict[str, Any]:
        """Return the fixed numbers of optimizer and schedule; `search.reading.studyfile` has checked them."""
        return dict(self.model_extra or {})


class EarlyStopping(Section):
    """Stop after `patience` epochs in which the objective improved by at most `min_delta`. The names are Keras's."""

    patience: Count
    min_delta: Annotated[Real, Field(ge=0)] = 0.0
    start_from_epoch: Annotated[Whole, Field(ge=0)] = 0


class LearnFrom(Section):
    """The earlier study whose trials the sampler learns from.

    Attributes:
        database: its database, relative to the study file.
        study: its name; "" for the only study of the database.
    """

    database: str = Field(min_length=1)
    study: str = ""


class SearchSection(Section):
    sampler: Annotated[Named, BeforeValidator(values.named_table)] = Named(name="bayes")
    pruner: Annotated[Named, BeforeValidator(values.named_table)] = Named(name="halving")
    early_stopping: Annotated[EarlyStopping | None, BeforeValidator(values.stopping_table)] = None
    duplicates: Flag = False
    start: tuple[dict[str, Any], ...] = ()
    prune_start: Flag = False
    learn_from: LearnFrom | None = None
    # The path of a table in a study file; `search.reading.studyfile` reads it, so that a stored study has its rows.
    candidates: str | tuple[dict[str, Any], ...] = ()

    @property
    def learns(self) -> bool:
        """Whether the drawn configs depend on the results of earlier trials."""
        return self.sampler.name not in ("random", "qmc", "grid")

    @property
    def learns_from_others(self) -> bool:
        """Whether its sampler reads trials that it has not drawn, too: cmaes goes on from its own generations."""
        return self.learns and self.sampler.name != "cmaes"


class RunSection(Section):
    engine: Annotated[str, BeforeValidator(values.engine)] = "auto"
    lanes: Annotated[Literal["auto"] | int, BeforeValidator(values.lanes)] = "auto"
    backend: Literal["auto", "tensorflow", "jax"] = "auto"
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16", "bfloat16"] = "auto"
    devices: Annotated[Literal["auto"] | int | tuple[str | int, ...], BeforeValidator(values.devices)] = "auto"
    storage: str = ""
    trial_time: Seconds | None = None
    keep: Annotated[Whole, Field(ge=0)] = 5
    disk: Annotated[int, BeforeValidator(values.disk)] = 2 * 10**9
    worker_memory: Annotated[Literal["auto"] | int, BeforeValidator(values.memory)] = "auto"
    deterministic: Flag = False


class LimitsSection(Section):
    """What a model may have or take; a config beyond a limit is refused before it trains."""

    parameters: Count | None = None
    model_mb: Annotated[Real, Field(gt=0)] | None = None
    latency_ms: Annotated[Real, Field(gt=0)] | None = None

    @property
    def are_set(self) -> bool:
        return self != LimitsSection()


class Settings(BaseModel):
    """A whole study file with its defaults, as the store keeps it and as workers receive it.

    `space` is the plain table of the file (presets resolved); `search.spec.study.StudyFile` parses it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    study: StudySection = StudySection()
    data: DataSection
    model: ModelSection = ModelSection()
    train: TrainSection = TrainSection()
    space: dict[str, Any] = Field(default_factory=dict)
    search: SearchSection = SearchSection()
    limits: LimitsSection = LimitsSection()
    run: RunSection = RunSection()
