"""The arguments of `Study` as the table of a study file, and errors that name the argument. Nothing here imports keras."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search.errors import StudyFileError, UsageError
from search.reading.studytext import StudyText, shorten
from search.spec import builderforms
from search.spec.code_reading import is_installed
from search.spec.keras_callbacks import OPTIONS
from search.spec.usercode import PROGRAM
from spaces import Choice, Float, Int, Space

Objects = dict[str, tuple[str, Any]]

_STUDY = ("name", "objective", "direction", "trials", "epochs", "seed", "time", "stop_after", "repeats", "folds")
_SECTION = re.compile(r"\[(study|data|model|train|space|search|run)\]")
# What the words of a study file are in Python.
_WORDS = (
    ("--no-check starts the study anyway", "run(check=False) starts the study anyway"),
    ("add --allow-unused to go on as it is", "use run(allow_unused=True) to go on as it is"),
    ("mend the file, or", "mend the arguments, or"),
    ("change the file back", "change it back"),
    ("the same command continues the study", "run() continues the study"),
    ("the same command starts it", "run() starts it"),
    ("the same command goes on", "run() goes on"),
    ("another --name", "another name"),
    ("choose one with --name", "choose one with name="),
    ("repeat the command", "use run() again"),
    ("--full,", "full=True,"),
    ("`manyfit retrain --full`", "retrain(..., full=True)"),
    ("`manyfit export --model`", "best.model()"),
    ("relative to the study file", "relative to the working folder"),
    ("must be a table", "must be a dictionary"),
    ("or a table with low and high", "or has low and high"),
)
# Options of commands; those of a whole command in backticks stay.
_OPTION = re.compile(r"(?<![\w-])--([a-z]+)(?=[^`]*(?:`[^`]*`[^`]*)*$)")
_INLINE_TABLE = re.compile(r"(\w+) = \{ (\w+) = ([^{},]+) \}")


@dataclass(frozen=True, init=False)
class Data:
    """Data with settings of a study file's section [data]: `Data((x, y), validation=0.2, scale="standard")`.

    Args:
        source: as the argument `data` of `Study`.
        settings: `validation`, `test`, `scale`, `task`, `limit` and the others of docs/study-file.md.
    """

    source: Any
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __init__(self, source: Any, **settings: Any) -> None:
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "settings", settings)


class ArgumentText(StudyText):
    """The arguments as the table of a study file, whose errors name an argument instead of a file and a line."""

    def error(self, key: str, message: str) -> StudyFileError:
        """Return the error for the dotted `key` of the table."""
        return StudyFileError(in_python(f"{_argument(key, self.table)}: {message}".removeprefix(": ")))


def in_python(text: str) -> str:
    """Return an error text in the words of a Python program: names of arguments instead of sections and options."""
    for words, instead in _WORDS:
        text = text.replace(words, instead)
    text = _OPTION.sub(r"\1", text)
    text = _INLINE_TABLE.sub(r'"\1": {"\2": \3}', text)
    return _SECTION.sub(lambda match: "the arguments of Study" if match[1] == "study" else match[1], text)


def _argument(key: str, table: Mapping[str, Any]) -> str:
    section, _, rest = key.partition(".")
    if section == "study":
        return rest
    if key in ("model.build", "run.storage"):
        return rest
    if key in ("data.source", "space.use") or not rest:
        return section
    inner, parts, level = section, rest.split("."), table.get(section, {})
    for part in parts:
        is_index = part.isdigit() and isinstance(level, list | tuple)
        inner += f"[{part}]" if is_index else f'["{part}"]'
        level = (
            level[int(part)]
            if is_index and int(part) < len(level)
            else level.get(part)
            if isinstance(level, dict)
            else None
        )
    return inner


@dataclass(frozen=True)
class Table:
    """The arguments of `Study` as the table of a study file; `objects` are those that the table names."""

    text: dict[str, Any]
    objects: Objects


def table_of(
    build: Any, data: Any, space: Any, storage: Any, study: Mapping[str, Any], sections: Mapping[str, Any]
) -> Table:
    """Return the table of a study; UsageError names the argument.

    `study`: the arguments that stand in a file's section [study]; `sections`: those that are sections themselves.
    """
    objects: Objects = {}
    names = _Names(objects)
    tables = {name: _section(name, value) for name, value in sections.items()}
    model, train = tables["model"], tables["train"]
    if "build" in model:
        raise UsageError(
            'model["build"]: give the builder as the first argument of Study; model has its fixed arguments'
        )
    if "storage" in tables["run"]:
        raise UsageError('run["storage"]: give the database as the argument storage')
    table: dict[str, Any] = {
        "study": {name: _plain(study[name]) for name in _STUDY if study[name] is not None},
        "data": _data(data, names),
        "model": {**_plain(model), "build": _builder(build, names, has_space=space is not None)},
        "train": _train(train, names),
        **({} if space is None else {"space": _space(space)}),
        "search": _plain(tables["search"]),
        "limits": _plain(tables["limits"]),
        "run": {**_plain(tables["run"]), "storage": _storage(storage)},
    }
    return Table(table, objects)


def _section(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name}: must be a dictionary of settings; received {_received(value)}")
    return dict(value)


def _storage(storage: Any) -> str:
    if not isinstance(storage, str | Path) or not str(storage):
        raise UsageError(
            f'storage: must be the path of a database, such as "studies.db"; received {_received(storage)}'
        )
    return str(storage)


@dataclass(frozen=True)
class _Names:
    """Gives names to the objects of a program."""

    objects: Objects

    def of(self, argument: str, value: Any, fallback: str) -> str:
        """Return the text that stands for an object in the table: its file and name, or a name for the object itself."""
        if text := _in_file(value):
            return text
        own = getattr(value, "__name__", "") if callable(value) else ""
        first = own if isinstance(own, str) and own.isidentifier() else fallback
        name, count = first, 1
        while name in self.objects and self.objects[name][1] is not value:
            count += 1
            name = f"{first}_{count}"
        self.objects.setdefault(name, (argument, value))
        return f"{PROGRAM}{name}"


def _in_file(value: Any) -> str:
    """Return `file.py:function` for a function or class at the top level of a user's module; "" for anything else."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    name, path = getattr(value, "__qualname__", ""), Path(getattr(module, "__file__", None) or "/")
    is_at_top = isinstance(name, str) and name.isidentifier() and getattr(module, name, None) is value
    if not is_at_top or path.suffix != ".py" or not path.is_file() or is_installed(path):
        return ""
    # A module of a package imports its siblings by relative names, which a file alone can't.
    if value.__module__ == "__main__" or "." in value.__module__ or path.stem != value.__module__:
        return ""
    folder = Path.cwd()
    return f"{path.relative_to(folder) if path.is_relative_to(folder) else path}:{name}"


def _builder(build: Any, names: _Names, *, has_space: bool) -> str:
    if isinstance(build, str):
        return build
    if isinstance(build, Path):
        raise UsageError(f'build: a file needs the name of its function; write "{build}:build"')
    is_hypermodel = builderforms.is_hypermodel(build)
    if not (callable(build) or is_hypermodel) or _is_instance_of_keras(build):
        raise UsageError(
            "build: must be a function (config, data) -> keras.Model, one in KerasTuner's form, (hp) -> keras.Model, "
            f'"my_model.py:build", or a builder\'s name such as "mlp"; received {_received(build)}'
        )
    if not is_hypermodel:
        _check_call("build", build, ("config", "data"))
        if not has_space:
            raise UsageError(
                'space: missing; give one such as {"learning_rate": Float(1e-4, 1e-1, log=True)}. It is found by running the '
                "builder only for a builder of one argument, hp"
            )
    return names.of("build", build, "build")


def _check_call(argument: str, function: Callable[..., Any], given: tuple[str, ...]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*given)
    except TypeError:
        called = ", ".join(given)
        raise UsageError(
            f"{argument}: {getattr(function, '__name__', 'it')}{signature} can't be called as ({called}), which is how it is "
            f"called; write def {argument}({called})"
        ) from None


def _data(data: Any, names: _Names) -> dict[str, Any]:
    settings = dict(data.settings) if isinstance(data, Data) else {}
    source = data.source if isinstance(data, Data) else data
    if source is None or isinstance(source, bool | int | float):
        raise UsageError(
            "data: must be arrays such as (x, y), a dictionary with x_train, y_train, ..., a function, or a source such as "
            f'"sklearn:digits"; received {_received(source)}'
        )
    if isinstance(source, str | Path):
        return {"source": str(source), **_plain(settings)}
    return {"source": names.of("data", source, "data"), **_plain(settings)}


def _train(train: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    table = dict(train)
    if "loss" in table:
        table["loss"] = _objects_of('train["loss"]', table["loss"], names, "loss")
    if table.get("metrics") is not None:
        table["metrics"] = _objects_of('train["metrics"]', table["metrics"], names, "metric")
    if "callbacks" in table:
        table["callbacks"] = _objects_of('train["callbacks"]', table["callbacks"], names, "callback")
    if (optimizer := table.get("optimizer")) is not None and not isinstance(optimizer, str):
        name = optimizer if isinstance(optimizer, type) else type(optimizer)
        raise UsageError(
            f'train["optimizer"]: every trial needs an optimizer of its own; received {_received(optimizer)}; write '
            f'train={{"optimizer": "{name.__name__.lower()}", "learning_rate": 0.001}}'
        )
    if isinstance(table.get("class_weight"), Mapping):
        # Keras's own form has numbers for classes.
        table["class_weight"] = {str(name): weight for name, weight in table["class_weight"].items()}
    return dict(_plain(table))


def _objects_of(argument: str, value: Any, names: _Names, fallback: str) -> Any:
    """Return a loss, a metric, a callback or a structure of them with names instead of objects."""
    if isinstance(value, list | tuple):
        return [_objects_of(f"{argument}[{index}]", item, names, fallback) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _objects_of(f'{argument}["{key}"]', item, names, fallback) for key, item in value.items()}
    if _is_of_keras(value) and (isinstance(value, type) or inspect.isfunction(value)):
        return value.__name__
    if _is_of_keras(value) and fallback != "callback":
        return _written(argument, value)
    if not callable(value) and not _is_instance_of_keras(value):
        return value
    if fallback != "loss" and _is_instance_of_keras(value):
        own = type(value).__name__
        raise UsageError(
            f"{argument}: every trial needs a {fallback} of its own; received {_received(value)}; give the class {own}"
            + (f", or a function that makes one: lambda config: {own}(...)" if fallback == "callback" else "")
            + (f'; or {{"name": "{own}"}} with its options' if own in OPTIONS else "")
        )
    return names.of(argument, value, fallback)


def _written(argument: str, value: Any) -> Any:
    """Raise UsageError for a loss or metric object of Keras with the table that means the same."""
    try:
        config = value.get_config()
    except Exception:  # noqa: BLE001 (a class of Keras may lack one)
        config = {}
    takes = inspect.signature(type(value)).parameters
    # `get_config` of some losses omits what their function gets.
    given = {**config, **getattr(value, "_fn_kwargs", {})}
    options = {key: given[key] for key in takes if key in given and key not in ("name", "dtype", "fn")}
    options = {key: item for key, item in options.items() if item is not None and item != takes[key].default}
    table = ", ".join(f"{key!r}: {item!r}" for key, item in {"name": type(value).__name__, **options}.items())
    raise UsageError(f"{argument}: every trial needs one of its own; received {_received(value)}; write {{{table}}}")


def _is_of_keras(value: Any) -> bool:
    kind = value if isinstance(value, type) or inspect.isfunction(value) else type(value)
    return str(kind.__module__).partition(".")[0] == "keras"


def _is_instance_of_keras(value: Any) -> bool:
    """Return whether a value is a model, loss, metric or callback, also one of a class of the user's."""
    if isinstance(value, type):
        return False
    return any(str(base.__module__).partition(".")[0] == "keras" for base in type(value).__mro__)


def _space(space: Any) -> dict[str, Any]:
    if isinstance(space, str):
        return {"use": space}
    if not isinstance(space, Mapping):
        raise UsageError(
            'space: must be a dictionary such as {"learning_rate": Float(1e-4, 1e-1, log=True), "batch_size": [32, 64]}, or '
            f"the name of a preset; received {_received(space)}"
        )
    return {str(name): _parameter(str(name), entry) for name, entry in space.items()}


def _parameter(name: str, entry: Any) -> Any:
    if isinstance(entry, type) and entry in (Float, Int, Choice):
        raise UsageError(f'space["{name}"]: {entry.__name__} needs its bounds or choices; write {entry.__name__}(...)')
    if isinstance(entry, Int) and not all(
        isinstance(_plain(bound), int) for bound in (entry.low, entry.high, entry.step)
    ):
        raise UsageError(f'space["{name}"]: Int has whole bounds; received {entry.low}..{entry.high}; use Float')
    if isinstance(entry, Float | Int | Choice):
        described = dict(_plain(Space({name: replace(entry, when={})}).describe()[name]))
        if isinstance(entry, Float):
            # Whole bounds would make it a range of whole numbers.
            described |= {key: float(described[key]) for key in ("low", "high", "step") if key in described}
        return {**described, **({"when": _plain(entry.when)} if entry.when else {})}
    if isinstance(entry, range):
        return list(entry)
    return _plain(entry)


def _plain(value: Any) -> Any:
    """Return a value with NumPy's numbers as Python's, and tuples as lists, as a study file would have them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def _received(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return shorten(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
