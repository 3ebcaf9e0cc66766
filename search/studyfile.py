"""Study TOML -> StudyFile: read, overridden from the command line, validated, every error with its place.

Nothing here imports keras, and nothing here runs a user's code.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search import data, pruners, samplers
from search.errors import StudyFileError, UsageError
from search.settings import EarlyStopping, Section, Settings, StudySection
from search.usercode import Reference
from search.vocabulary import (
    TRAIN_NUMBERS,
    closest,
    OPTIMIZERS,
    direction_of,
    optimizer_arguments,
    optimizer_class,
)
from spaces import Choice, Parameter, Space, SpaceError, load_preset

MAX_BYTES = 1_000_000
_MODELS = Path(__file__).resolve().parent.parent / "models"


@dataclass(frozen=True)
class StudyFile:
    """A study as its file and the command line describe it; the resolved settings of one that is stored are the same.

    Attributes:
        path: the TOML file (of a stored study: the one that it was first started from).
        settings: every section, defaults filled in.
    """

    path: Path
    settings: Settings

    @property
    def base(self) -> Path:
        """The folder that paths in the file are relative to."""
        return self.path.parent

    @property
    def name(self) -> str:
        return self.settings.study.name or self.path.stem

    @cached_property
    def space(self) -> Space:
        return Space.parse(self.settings.space)

    @property
    def direction(self) -> str:
        """ "maximize" or "minimize"."""
        return self.settings.study.direction or direction_of(self.settings.study.objective) or "minimize"

    @property
    def storage(self) -> Path:
        """The SQLite file; by default beside the study file."""
        location = self.settings.run.storage.removeprefix("sqlite:///")
        return (self.base / location if location else self.path.with_suffix(".db")).resolve()

    @property
    def epochs(self) -> int:
        """The most epochs that a trial may have."""
        searched = self.space.get("epochs")
        if searched is None:
            return self.settings.study.epochs or DEFAULT_EPOCHS
        return int(max(searched.values())) if isinstance(searched, Choice) else int(searched.high)

    @property
    def builder(self) -> Reference | None:
        """The user's own builder; None for one of ours in `models/`."""
        return Reference.parse(self.settings.model.build, self.base)

    def beside(self, suffix: str) -> Path:
        """Return the path of what is kept beside the study's database: its log, its best.json."""
        return self.storage.with_name(f"{self.name}{suffix}")

    def fixed(self) -> dict[str, Any]:
        """Return what every config of the study has beside its parameters: the arguments of [model] and [train]."""
        train = self.settings.train
        return {
            **self.settings.model.arguments,
            "optimizer": train.optimizer,
            "batch_size": train.batch_size,
            "epochs": self.settings.study.epochs or DEFAULT_EPOCHS,
            **train.numbers,
        }


DEFAULT_EPOCHS = 20


def read(path: Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Read and validate a study file; `overrides` are the `key.path=value` of `--set`, applied in order.

    Raises StudyFileError with file, line, key, what was received and what to do. Takes milliseconds and runs nothing
    of the user's.
    """
    text = _read_text(path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyFileError(_syntax_message(path, str(error))) from None
    except RecursionError:
        raise StudyFileError(
            f"{path}: tables or lists are nested too deeply; a study file needs three levels"
        ) from None
    if not table:
        raise StudyFileError(f"{path}: the file is empty; it needs at least [data] with a source and a [space]")
    place = _Place(path, text, [])
    for override in overrides:
        place.overridden.append(_apply_override(table, override))
    return _build(path, table, place)


def stored(path: Path, table: dict[str, Any]) -> StudyFile:
    """Return a study as a database holds it, without looking at files that may be gone by now."""
    return StudyFile(path, Settings.model_validate(table))


def stored_with(file: StudyFile, storage: Path, overrides: Sequence[str]) -> StudyFile:
    """Return a stored study with some keys changed, in the database it was found in."""
    table = file.settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    place = _Place(storage, "", [])
    for override in overrides:
        place.overridden.append(_apply_override(table, override))
    table.setdefault("run", {})["storage"] = str(storage.resolve())
    return _build(file.path, table, place)


def _build(path: Path, table: dict[str, Any], place: _Place) -> StudyFile:
    table = {**table, "space": _with_preset(table, place)}
    try:
        settings = Settings.model_validate(table)
    except ValidationError as error:
        raise place.error(*_first_problem(error, table)) from None
    try:
        space = Space.parse(settings.space)
    except SpaceError as error:
        raise place.error(f"space.{error.key}".rstrip("."), str(error)) from None
    if not space:
        raise place.error("space", "there is nothing to search; give at least one parameter, or use a preset")
    study = StudyFile(path.resolve(), settings)
    _check(study, place)
    # Stored with the study, which must keep its name when the file is renamed.
    named = settings.study.model_copy(update={"name": study.name})
    return StudyFile(study.path, settings.model_copy(update={"study": named}))


def warnings(study: StudyFile) -> list[str]:
    """Say what is allowed and probably not meant."""
    found = []
    optimizers = _optimizers(study)
    for name, parameter in study.space.items():
        if name not in TRAIN_NUMBERS or "optimizer" in parameter.when:
            continue
        takers = [o for o in optimizers if name in _read_by(o)]
        if not takers:
            found.append(f"parameter {name!r} is read by nothing: {', '.join(optimizers)} has no {name}")
        elif len(takers) < len(optimizers):
            found.append(
                f"parameter {name!r} is read by {', '.join(takers)} only; "
                f'add when = {{ optimizer = "{takers[0]}" }} to draw it only there'
            )
    return found


@dataclass(frozen=True)
class _Place:
    """Where in the file (or on the command line) a key stands."""

    path: Path
    text: str
    overridden: list[str]

    def error(self, key: str, message: str) -> StudyFileError:
        for override in self.overridden:
            if key == override or key.startswith(f"{override}.") or override.startswith(f"{key}."):
                return StudyFileError(f"--set {override}: {key}: {message}")
        line = self._line(key)
        where = f"{self.path}, line {line}" if line else f"{self.path}"
        return StudyFileError(f"{where}, {key}: {message}" if key else f"{where}: {message}")

    def _line(self, key: str) -> int | None:
        """Find the line that a dotted key stands on, or that of the nearest table around it; None if it stands nowhere.

        tomllib gives no positions, so this looks for headers and `key =`; keys inside multi-line texts could mislead
        it, which costs a wrong line number and nothing else.
        """
        wanted = [part for part in key.split(".") if not part.isdigit()]
        best: tuple[int, int] | None = None
        table: list[str] = []
        for number, line in enumerate(self.text.splitlines(), 1):
            stripped = line.strip()
            header = re.match(r"\[+\s*([^\]]+?)\s*\]", stripped)
            if header and "=" not in stripped.split("]")[0]:
                table = [part.strip().strip("\"'") for part in header.group(1).split(".")]
                found = table
            elif assigned := re.match(r"([A-Za-z0-9_.\"'-]+)\s*=", stripped):
                found = table + [part.strip("\"'") for part in assigned.group(1).split(".")]
            else:
                continue
            if wanted[: len(found)] == found and (best is None or len(found) > best[0]):
                best = (len(found), number)
        return best[1] if best else None


def _read_text(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise StudyFileError(
                f"{path}: a study file has at most {MAX_BYTES:,} bytes; received {path.stat().st_size:,}; "
                "data belong into a file of their own"
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise StudyFileError(f"{path}: no such study file") from None
    except IsADirectoryError:
        raise StudyFileError(f"{path}: this is a folder; name a study file, or use `manyfit list {path}`") from None
    except (OSError, ValueError) as error:
        raise StudyFileError(f"{path}: can't be read: {error}") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        raise StudyFileError(f"{path}: starts with a byte-order mark; save the file as plain UTF-8")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise StudyFileError(
            f"{path}, line {line}: not UTF-8 text (byte {raw[error.start]:#04x}); a study file is TOML saved as UTF-8"
        ) from None


def _syntax_message(path: Path, message: str) -> str:
    at = re.search(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$", message)
    what = message[: at.start()] if at else message
    where = f"{path}, line {at.group(1)}" if at and at.group(1) else str(path)
    return f"{where}: not valid TOML: {what}; a line is `key = value` or `[section]`"


def _apply_override(table: dict[str, Any], override: str) -> str:
    """Write one `key.path=value` into the table; the value is TOML, or else a text."""
    key, equals, value = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise UsageError(f"--set takes key.path=value, such as space.dropout.high=0.6; received {override!r}")
    if parts[0] not in Settings.model_fields:
        raise UsageError(
            f"--set {key}: no section {parts[0]!r}{closest(parts[0], Settings.model_fields)}; "
            f"there are {', '.join(Settings.model_fields)}"
        )
    parsed: Any = value
    # A bare word such as `random` is no TOML value and means the text.
    with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError):
        parsed = tomllib.loads(f"value = {value}")["value"]
    inner = table
    for part in parts[:-1]:
        below = inner.get(part, {})
        # `sampler = "tpe"` with --set search.sampler.n_startup_trials=5: the text was short for a table.
        below = {"name": below} if isinstance(below, str) else below
        if not isinstance(below, dict):
            raise UsageError(f"--set {key}: {part!r} is no table; received {below!r}")
        inner[part] = dict(below)
        inner = inner[part]
    inner[parts[-1]] = parsed
    return ".".join(parts)


def _with_preset(table: Mapping[str, Any], place: _Place) -> Any:
    """Resolve `use`: the preset's parameters, less what is fixed elsewhere in the file, under the file's own."""
    space = table.get("space", {})
    if not isinstance(space, dict) or "use" not in space:
        return space
    own = {name: entry for name, entry in space.items() if name != "use"}
    try:
        preset = load_preset(str(space["use"]))
    except SpaceError as error:
        raise place.error("space.use", str(error)) from None
    fixed = {key for section in ("model", "train") for key in table.get(section, {})}
    fixed |= {"epochs"} & set(table.get("study", {}))
    return {**{name: entry for name, entry in preset.items() if name not in fixed}, **own}


def _first_problem(error: ValidationError, table: Mapping[str, Any]) -> tuple[str, str]:
    """Turn pydantic's first error into (dotted key, message with what was received)."""
    # Of the branches of a union (`"auto"` or a number or a list) the last one says most.
    problem = error.errors(include_url=False)[0]
    location = [str(part) for part in problem["loc"]]
    known: Any = table
    path: list[str] = []
    for part in location:
        # pydantic names the branch of a union in its location; only what stands in the file is a key.
        if isinstance(known, Mapping) and part in known:
            known = known[part]
        elif isinstance(known, list) and part.isdigit() and int(part) < len(known):
            known = known[int(part)]
        elif part is not location[-1] or problem["type"] != "missing":
            continue
        path.append(part)
    key = ".".join(path)
    received = _shorten(problem["input"])
    if problem["type"] == "extra_forbidden":
        return key, f"unknown key{_did_you_mean(location)}; remove it or mend its spelling"
    if problem["type"] == "missing":
        return key, "is missing; add it"
    if problem["type"] == "value_error":
        return key, problem["msg"].removeprefix("Value error, ")
    same = [
        p for p in error.errors(include_url=False) if p["input"] is problem["input"] or p["input"] == problem["input"]
    ]
    wanted = " or ".join(dict.fromkeys(p["msg"].removeprefix("Input should be ") for p in same))
    return key, f"must be {wanted[:1].lower()}{wanted[1:]}; received {received}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _did_you_mean(location: Sequence[str]) -> str:
    model: type[Any] = Settings
    for part in location[:-1]:
        field = model.model_fields.get(part)
        annotation = EarlyStopping if part == "early_stopping" else field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return ""
        model = annotation
    return closest(location[-1], model.model_fields)


def _check(study: StudyFile, place: _Place) -> None:
    """Check what a single section can't know of itself."""
    settings = study.settings
    if study.settings.study.direction is None and direction_of(settings.study.objective) is None:
        raise place.error(
            "study.objective",
            f"whether {settings.study.objective!r} is better high or low can't be told by its name; "
            'add direction = "maximize" or "minimize"',
        )
    if not settings.study.name:
        try:
            StudySection(name=study.path.stem)
        except ValidationError:
            raise place.error(
                "study.name", f"the file's name {study.path.stem!r} can't name a study; add name under [study]"
            ) from None
    _check_space(study, place)
    _check_fixed(study, place)
    for index, start in enumerate(settings.search.start):
        try:
            study.space.check(start)
        except SpaceError as error:
            raise place.error(f"search.start.{index}.{error.key}", str(error)) from None
    for section, room, named in (
        ("sampler", samplers, settings.search.sampler),
        ("pruner", pruners, settings.search.pruner),
    ):
        try:
            room.check(named.name, named.options)
            if section == "sampler":
                samplers.check_space(named.name, named.options, study.space)
        except UsageError as error:
            raise place.error(f"search.{section}", str(error)) from None
    _check_builder(study, place)
    _check_storage(study, place)
    try:
        data.check(settings.data, study.base)
    except UsageError as error:
        raise place.error("data.source", str(error)) from None


def _check_space(study: StudyFile, place: _Place) -> None:
    given = {
        **{key: "model" for key in study.settings.model.arguments},
        **{key: "train" for key in study.settings.train.model_fields_set | set(study.settings.train.numbers)},
        **({"epochs": "study"} if study.settings.study.epochs is not None else {}),
    }
    for name, parameter in study.space.items():
        if name in given:
            raise place.error(
                f"space.{name}", f"{name!r} is both searched here and fixed in [{given[name]}]; remove one of them"
            )
        try:
            for value in _extremes(parameter):
                if name in TRAIN_NUMBERS:
                    TRAIN_NUMBERS[name].check(name, value)
                elif name == "optimizer":
                    optimizer_class(value if isinstance(value, str) else repr(value))
                elif name in ("batch_size", "epochs") and (type(value) is not int or value < 1):
                    raise ValueError(f"{name} must be a whole number of at least 1; received {value!r}")
        except ValueError as error:
            raise place.error(f"space.{name}", str(error)) from None


def _extremes(parameter: Parameter) -> Iterable[Any]:
    return parameter.choices if isinstance(parameter, Choice) else (parameter.low, parameter.high)


def _check_fixed(study: StudyFile, place: _Place) -> None:
    optimizers = _optimizers(study)
    for key in study.settings.train.numbers:
        if not any(key in _read_by(optimizer) for optimizer in optimizers):
            takers = [o.lower() for o in OPTIMIZERS if key in _read_by(o)]
            raise place.error(
                f"train.{key}", f"{', '.join(optimizers)} has no {key}; remove it, or use one of {', '.join(takers)}"
            )
    for name in ("end_factor", "warmup"):
        in_use = study.settings.train.numbers.get("schedule", "constant") != "constant" or "schedule" in study.space
        if name == "end_factor" and name in study.settings.train.numbers and not in_use:
            raise place.error(f"train.{name}", 'has no effect without a schedule; add schedule = "cosine", say')


def _optimizers(study: StudyFile) -> list[str]:
    searched = study.space.get("optimizer")
    return list(searched.choices) if isinstance(searched, Choice) else [study.settings.train.optimizer]


def _read_by(optimizer: str) -> tuple[str, ...]:
    return (*optimizer_arguments(optimizer), "label_smoothing", "schedule", "warmup", "end_factor")


def _check_builder(study: StudyFile, place: _Place) -> None:
    if study.builder is not None:
        try:
            study.builder.check()
        except UsageError as error:
            raise place.error("model.build", str(error)) from None
        return
    ours = sorted(file.stem for file in _MODELS.glob("*.py") if file.stem != "__init__")
    if study.settings.model.build not in ours:
        raise place.error(
            "model.build",
            f"no such builder: {study.settings.model.build!r}{closest(study.settings.model.build, ours)}; there are "
            f'{", ".join(ours)}, or name a function of yours, such as "my_model.py:build"',
        )


def _check_storage(study: StudyFile, place: _Place) -> None:
    location = study.settings.run.storage
    scheme, separator, _ = location.partition("://")
    if separator and scheme != "sqlite":
        # The address is not repeated: it may hold a password.
        raise place.error("run.storage", f"only SQLite files are supported; received an address of {scheme!r}")
    if "\0" in location or study.storage.is_dir():
        raise place.error("run.storage", f"must name a file; received {location!r}")
    if not study.storage.parent.is_dir():
        raise place.error("run.storage", f"the folder {study.storage.parent} is not there; make it first")
