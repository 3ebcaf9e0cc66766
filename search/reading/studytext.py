"""The text of a study file: read, parsed, overridden from the command line, and where in it a key stands.

Errors are one line: file, line, key, what is wrong, what was received, what to do.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.errors import StudyFileError, masked
from search.reading.hints import unknown_key
from search.reading.tomlfaults import explain
from search.spec.settings import SearchSection, Settings
from search.spec.vocabulary import closest
from spaces import SpaceError, load_preset

MAX_BYTES = 1_000_000

# A value of more lines than this is not followed to its end: its line is then that of the table around it.
_MAX_LINES = 200

_MAX_DEPTH = 30
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")


@dataclass(frozen=True)
class StudyText:
    """A study file as a table, with the keys that the command line has written into it."""

    path: Path
    text: str
    table: dict[str, Any]
    overridden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        level: list[Any] = [self.table]
        for _ in range(_MAX_DEPTH):
            level = [inner for value in level for inner in _inside(value)]
        if level:
            raise _nested_too_deeply(self.path)

    @classmethod
    def read(cls, path: Path) -> StudyText:
        """Read a study file; StudyFileError if it is none, not text or not TOML."""
        text = _decode(path, _read_bytes(path))
        try:
            return cls(path, text, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise _syntax_error(path, text, str(error)) from None
        except ValueError:
            raise _refused(path, "not valid TOML: a whole number has thousands of digits; shorten it") from None
        except RecursionError:
            raise _nested_too_deeply(path) from None

    def overridden_by(self, overrides: Sequence[str]) -> StudyText:
        """Return it with each `key.path=value` written into the table, in order; a value is TOML, or else a text."""
        table = self.table
        keys = []
        # A preset first: what is set below one of its parameters changes what the preset says.
        for override in sorted(overrides, key=lambda o: o.partition("=")[0].strip() not in ("space", "space.use")):
            table, key = self._with(table, override)
            keys.append(key)
        return StudyText(self.path, self.text, table, (*self.overridden, *keys))

    def error(self, key: str, message: str) -> StudyFileError:
        """Return the error of what stands at the dotted `key`."""
        for override in reversed(self.overridden):
            # What is wrong with `low` may come of a `high` that was set.
            is_same_parameter = key.startswith("space.") and key.split(".")[:2] == override.split(".")[:2]
            if f"{key}.".startswith(f"{override}.") or override.startswith(f"{key}.") or is_same_parameter:
                where = f"{self.path}, --set {override}" + (f", {key}" if key != override else "")
                return _refused(where, message)
        line = self._line(key)
        return _refused(
            ", ".join([str(self.path), *([f"line {line}"] if line else []), *([key] if key else [])]), message
        )

    def invalid(self, error: ValidationError) -> StudyFileError:
        """Return the error of the first thing that the settings' models do not take."""
        return self.error(*_first_problem(error, self.table))

    def _with(self, table: Mapping[str, Any], override: str) -> tuple[dict[str, Any], str]:
        key, equals, value = override.partition("=")
        parts = [part.strip() for part in key.split(".")]
        where = f"{self.path}, --set {key}"
        if not equals or not all(parts):
            form = "key.path=value, such as space.dropout.high=0.6"
            raise _refused(self.path, f"--set takes {form}; received {shorten(override)}")
        if parts[0] not in Settings.model_fields:
            known = ", ".join(Settings.model_fields)
            hint = unknown_key(parts[:1])
            raise _refused(where, f"no section {parts[0]!r}{hint}; there are {known}")
        parsed: Any = value
        # A bare word such as `random` is no TOML value and means the text.
        with contextlib.suppress(ValueError, RecursionError):
            parsed = tomllib.loads(f"value = {value}")["value"]
        changed = inner = dict(table)
        for depth, part in enumerate(parts[:-1]):
            below = inner.get(part, {})
            if parts[0] == "space" and depth == 1:
                below = _parameter(inner, part)
            if parts[0] == "search" and part in ("sampler", "pruner"):
                # `sampler = "tpe"` with --set search.sampler.n_startup_trials=5: the text was short for a table.
                below = {"name": below} if isinstance(below, str) else below
                below = below or {"name": getattr(SearchSection(), part).name}
            if not isinstance(below, dict):
                raise _refused(where, f"{part!r} is no table; received {shorten(below)}; set it as a whole")
            inner[part] = dict(below)
            inner = inner[part]
        inner[parts[-1]] = parsed
        return changed, ".".join(parts)

    def _line(self, key: str) -> int | None:
        """Return the line of a dotted key, or of the nearest table around it; None if it stands nowhere."""
        wanted = key.split(".")
        best: tuple[int, int | None] = (0, None)
        header: list[str] = []
        tables: dict[tuple[str, ...], int] = {}
        for number, is_header, statement in _statements(self.text):
            if is_header:
                header, in_list = _path(statement)
                if in_list:
                    index = tables.get(tuple(header), -1) + 1
                    tables[tuple(header)] = index
                    header = [*header, str(index)]
                found = len(header) if wanted[: len(header)] == header else 0
                # `[[search.start]]` stands for `search.start` too.
                found = found or (len(header) - 1 if in_list and wanted == header[:-1] else 0)
            elif wanted[: len(header)] == header:
                found = len(header) + _depth(statement, wanted[len(header) :])
            else:
                continue
            if found > best[0]:
                best = (found, number)
        return best[1]


def _parameter(space: Mapping[str, Any], name: str) -> Any:
    """Return what a `[space]` says of a parameter, as a table where it can be one: its own words, or else its preset's."""
    entry = space.get(name)
    if entry is None:
        with contextlib.suppress(SpaceError):  # of a preset that does not exist is told when it is resolved
            entry = load_preset(str(space["use"])).get(name) if "use" in space else None
    if isinstance(entry, list):
        return {"choices": entry}
    return {} if entry is None else entry


def shorten(value: Any) -> str:
    """Return what was received, short enough for a line, and without passwords."""
    # Before it is cut: without its @ a password would not be seen to be one.
    text = masked(str(value).lower() if isinstance(value, bool) else repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refused(where: Path | str, message: str) -> StudyFileError:
    """Make the error one line that can be shown anywhere: no control characters, no password of an address."""
    text = masked(f"{where}: {message}")
    text = re.sub(r"\S{400,}", lambda long: f"{long[0][:40]}...{long[0][-120:]}", text)
    return StudyFileError("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def _nested_too_deeply(path: Path) -> StudyFileError:
    return _refused(path, "tables or lists are nested too deeply; a study file needs a handful of levels")


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # No more than that of a file that never ends, such as /dev/zero.
            raw = file.read(MAX_BYTES + 1)
        size = path.stat().st_size
    except FileNotFoundError:
        raise _refused(path, f"no such study file{_files_there(path)}") from None
    except IsADirectoryError:
        raise _refused(
            path, f"this is a folder; name a study file, or use `manyfit list {shlex.quote(str(path))}`"
        ) from None
    except (OSError, ValueError) as error:
        raise _refused(path, f"can't be read: {error}") from None
    if len(raw) > MAX_BYTES:
        received = f"received {size:,}; " if size > MAX_BYTES else ""
        raise _refused(
            path, f"a study file has at most {MAX_BYTES:,} bytes; {received}data belong into a file of their own"
        )
    return raw


def _files_there(path: Path) -> str:
    """Say which study files are in the folder that was looked in."""
    try:
        folder = path.parent.resolve()
        if not folder.is_dir():
            return f"; the folder {folder} is not there"
        names = sorted(file.name for file in folder.iterdir() if file.suffix == ".toml")
    except (OSError, ValueError, RuntimeError):
        return ""
    if not names:
        return f"; {folder} holds no .toml file"
    shown = f"{', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
    return f"{closest(path.name, names)}; {folder} holds {shown}"


def _decode(path: Path, raw: bytes) -> str:
    if raw.startswith(_BYTE_ORDER_MARKS):
        raise _refused(path, "starts with a byte-order mark; save the file as plain UTF-8")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        what = f"not UTF-8 text; received the byte {raw[error.start]:#04x}; a study file is TOML saved as UTF-8"
        raise _refused(f"{path}, line {line}", what) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        what = "not text; received a NUL byte; a study file is TOML saved as UTF-8"
        raise _refused(f"{path}, line {line}", what)
    return text


def _syntax_error(path: Path, text: str, message: str) -> StudyFileError:
    at = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    what = message[: at.start()] if at else message
    # Of what is not closed at the end, the line is the last one.
    lines = text.splitlines()
    number = int(at.group(1)) if at and at.group(1) else len(lines)
    received = f"; received {shorten(lines[number - 1].strip())}" if 0 < number <= len(lines) else ""
    twice = re.fullmatch(r"Cannot declare \((.*?),?\) twice", what)
    if twice:
        what = f"[{twice.group(1).replace(', ', '.')}] stands twice; put their keys together".replace("'", "")
    else:
        column = int(at.group(2)) if at and at.group(2) else 0
        what = explain(what, lines[number - 1] if 0 < number <= len(lines) else "", column)
    return _refused(f"{path}, line {number}", f"not valid TOML: {what}{received}")


def _statements(text: str) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """Give the headers and assignments of a valid TOML text, each as (its first line, whether a header, its table).

    tomllib gives no positions. But a statement, and no part of one, is a TOML document by itself.
    """
    first, pending = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        pending += f"{line}\n"
        if number - first >= _MAX_LINES:
            return
        try:
            table = tomllib.loads(pending)
        except ValueError:
            continue
        if table:
            yield first, pending.lstrip().startswith("["), table
        first, pending = number + 1, ""


def _path(header: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Return the keys of a header's table, and whether it is one of a list (`[[...]]`)."""
    path: list[str] = []
    inner: Any = header
    while inner and isinstance(inner, dict):
        key, inner = next(iter(inner.items()))
        path.append(key)
    return path, isinstance(inner, list)


def _depth(value: Any, keys: Sequence[str]) -> int:
    """Return how many of `keys` lead into `value`."""
    for depth, key in enumerate(keys):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return depth
    return len(keys)


_WORDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table, such as {{ key = value }}",
    "model_type": "a table, [section] or {{ key = value }}",
    "string_too_short": "a text that is not empty",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}


def _first_problem(error: ValidationError, table: Mapping[str, Any]) -> tuple[str, str]:
    """Turn pydantic's first error into (dotted key, message with what was received)."""
    problems = error.errors(include_url=False)
    # A key is missing, perhaps, because it is there under another name.
    problem = next((found for found in problems if found["type"] == "extra_forbidden"), problems[0])
    kind, location = problem["type"], [str(part) for part in problem["loc"]]
    # pydantic names the branch of a union in a location too; only what stands in the file is a key.
    depth = _depth(table, location)
    key = ".".join(location if kind == "missing" else location[:depth])
    received = shorten(problem["input"])
    if kind == "extra_forbidden":
        return key, f"unknown key{unknown_key(location) or '; remove it or mend its spelling'}"
    if kind == "missing":
        return (
            key,
            'is missing; add [data] with source = "sklearn:digits", say' if key == "data" else "is missing; add it",
        )
    if kind == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        is_told = "received" in message or (isinstance(problem["input"], str) and received in message)
        return key, message if is_told else f"{message}; received {received}"
    words = _WORDS.get(kind)
    bounds = {
        name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        for name, bound in problem.get("ctx", {}).items()
    }
    message = f"must be {words.format(**bounds)}" if words else problem["msg"]
    hint = ""
    if kind == "literal_error" and isinstance(problem["input"], str):
        hint = closest(problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    return key, f"{message}; received {received}{hint}"
