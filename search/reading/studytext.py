"""The text of a study file: read it, parse it, apply overrides, and locate the line of a key.

Each error is one line: file, line, key, what is wrong, what was received, what to do.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.errors import StudyFileError, masked
from search.reading import rewriting
from search.reading.hints import unknown_key_hint
from search.reading.tomlfaults import explain
from search.spec.settings import SearchSection, Settings
from search.spec.vocabulary import closest
from spaces import SpaceError, load_preset, shown

MAX_BYTES = 1_000_000

# The search for lines stops at a longer statement: errors from there on give the line of an enclosing table.
_MAX_LINES = 200

_MAX_DEPTH = 30
# UTF-32 first: its mark begins with that of UTF-16.
_OTHER_ENCODINGS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


@dataclass(frozen=True)
class StudyText:
    """A study file as a table, with the keys that the command line overrides."""

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
        """Read a study file; StudyFileError if it is missing, not text or not TOML."""
        text = _decode(path, _read_bytes(path))
        try:
            return cls(path, text, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise _syntax_error(path, text, str(error)) from None
        except ValueError:
            raise _error_at(path, "not valid TOML: a whole number has thousands of digits; shorten it") from None
        except RecursionError:
            raise _nested_too_deeply(path) from None

    def overridden_by(self, overrides: Sequence[str]) -> StudyText:
        """Return a copy with each `key.path=value` written into the table, in order; a value that is not TOML is a text."""
        table = self.table
        keys = []
        # Choose the preset first: other overrides may change its parameters.
        for override in sorted(overrides, key=lambda o: o.partition("=")[0].strip() not in ("space", "space.use")):
            table, key = self._with(table, override)
            keys.append(key)
        return replace(self, table=table, overridden=(*self.overridden, *keys))

    def error(self, key: str, message: str) -> StudyFileError:
        """Return the error for the dotted `key`, with its line or its `--set`."""
        for override in reversed(self.overridden):
            # An override of `high` may be why `low` is wrong.
            is_same_parameter = key.startswith("space.") and key.split(".")[:2] == override.split(".")[:2]
            if f"{key}.".startswith(f"{override}.") or override.startswith(f"{key}.") or is_same_parameter:
                where = f"{self.path}, --set {override}" + (f", {key}" if key != override else "")
                return _error_at(where, message)
        line = self._line(key)
        return _error_at(
            ", ".join([str(self.path), *([f"line {line}"] if line else []), *([key] if key else [])]), message
        )

    def invalid(self, error: ValidationError) -> StudyFileError:
        """Return the error for the first value that the settings' models reject."""
        return self.error(*_first_problem(error, self.table))

    def _with(self, table: Mapping[str, Any], override: str) -> tuple[dict[str, Any], str]:
        key, equals, value = override.partition("=")
        parts = [part.strip() for part in key.split(".")]
        where = f"{self.path}, --set {key}"
        if not equals or not all(parts):
            form = "key.path=value, such as space.dropout.high=0.6"
            raise _error_at(self.path, f"--set takes {form}; received {shorten(override)}")
        if parts[0] not in Settings.model_fields:
            known = ", ".join(Settings.model_fields)
            hint = unknown_key_hint(parts[:1])
            raise _error_at(where, f"no section {parts[0]!r}{hint}; there are {known}")
        parsed: Any = value
        # A bare word such as `random` is not valid TOML; it means the text.
        with contextlib.suppress(ValueError, RecursionError):
            statements = tomllib.loads(f"value = {value}")
            parsed = statements.pop("value")
            if statements:
                raise _error_at(where, f"takes one value; received {shorten(value)}; give each key a --set of its own")
        changed = inner = dict(table)
        for depth, part in enumerate(parts[:-1]):
            below = inner.get(part, {})
            if parts[0] == "space" and depth == 1:
                below = _parameter(inner, part)
            if parts[0] == "search" and part in ("sampler", "pruner"):
                # `sampler = "tpe"` with --set search.sampler.n_startup_trials=5: the name becomes a table.
                below = {"name": below} if isinstance(below, str) else below
                below = below or {"name": getattr(SearchSection(), part).name}
            if not isinstance(below, dict):
                raise _error_at(where, f"{part!r} is no table; received {shorten(below)}; set it as a whole")
            inner[part] = dict(below)
            inner = inner[part]
        inner[parts[-1]] = parsed
        return changed, ".".join(parts)

    def _line(self, key: str) -> int | None:
        """Return the line of a dotted key, or of the nearest enclosing table; None if the text has neither."""
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
                depth = len(header) if wanted[: len(header)] == header else 0
                # The first `[[search.start]]` is also the line of `search.start`.
                depth = depth or (len(header) - 1 if in_list and wanted == header[:-1] else 0)
            elif wanted[: len(header)] == header:
                depth = len(header) + _depth(statement, wanted[len(header) :])
            else:
                continue
            if depth > best[0]:
                best = (depth, number)
        return best[1]


def _parameter(space: Mapping[str, Any], name: str) -> Any:
    """Return a parameter of `[space]`, as a table if possible: the file's own entry, or else the preset's."""
    entry = space.get(name)
    if entry is None:
        with contextlib.suppress(SpaceError):  # a missing preset raises later, when it is resolved
            entry = load_preset(str(space["use"])).get(name) if "use" in space else None
    if isinstance(entry, list):
        return {"choices": entry}
    return {} if entry is None else entry


def shorten(value: Any) -> str:
    """Return a received value as TOML for one line, with passwords masked."""
    # Mask before cutting: a password is recognized by the @ behind it.
    text = masked(shown(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _error_at(where: Path | str, message: str) -> StudyFileError:
    """Return an error of one printable line: control characters escaped, passwords masked, long words cut."""
    text = masked(f"{where}: {message}")
    text = re.sub(r"\S{400,}", lambda long: f"{long[0][:40]}...{long[0][-120:]}", text)
    return StudyFileError("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def _nested_too_deeply(path: Path) -> StudyFileError:
    return _error_at(path, "tables or lists are nested too deeply; a study file needs a handful of levels")


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # Limit the read: a file such as /dev/zero never ends.
            raw = file.read(MAX_BYTES + 1)
        size = path.stat().st_size
    except FileNotFoundError:
        raise _error_at(path, f"no such study file{_files_there(path)}") from None
    except IsADirectoryError:
        raise _error_at(
            path, f"this is a folder; name a study file, or use `manyfit list {shlex.quote(str(path))}`"
        ) from None
    except (OSError, ValueError) as error:
        raise _error_at(path, f"can't be read: {error}") from None
    if len(raw) > MAX_BYTES:
        received = f"received {size:,}; " if size > MAX_BYTES else ""
        raise _error_at(
            path, f"a study file has at most {MAX_BYTES:,} bytes; {received}data belong into a file of their own"
        )
    return raw


def _files_there(path: Path) -> str:
    """Return which study files the folder of `path` has, for an error message."""
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
    for encoding, marks in _OTHER_ENCODINGS.items():
        if raw.startswith(marks):
            raise _error_at(path, f"is {encoding} text; received its byte-order mark; save the file as UTF-8")
    if raw.startswith(codecs.BOM_UTF8):
        raise _error_at(path, "starts with a byte-order mark; save the file as plain UTF-8")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        what = f"not UTF-8 text; received the byte {raw[error.start]:#04x}; a study file is TOML saved as UTF-8"
        raise _error_at(f"{path}, line {line}", what) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        what = "not text; received a NUL byte; a study file is TOML saved as UTF-8"
        raise _error_at(f"{path}, line {line}", what)
    # Lines may end as on an old Macintosh; tomllib takes the ends of Unix and Windows only.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _syntax_error(path: Path, text: str, message: str) -> StudyFileError:
    position = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    what = message[: position.start()] if position else message
    # An error at the end of the document is at the last line.
    lines = text.splitlines()
    number = int(position.group(1)) if position and position.group(1) else len(lines)
    received = f"; received {shorten(lines[number - 1].strip())}" if 0 < number <= len(lines) else ""
    twice = re.fullmatch(r"Cannot declare \((.*?),?\) twice", what)
    if twice:
        what = f"[{twice.group(1).replace(', ', '.')}] stands twice; put their keys together".replace("'", "")
    else:
        column = int(position.group(2)) if position and position.group(2) else 0
        what = explain(what, lines[number - 1] if 0 < number <= len(lines) else "", column)
    return _error_at(f"{path}, line {number}", f"not valid TOML: {what}{received}")


def _statements(text: str) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """Yield the headers and assignments of a valid TOML text, each as (first line, whether it is a header, its table).

    tomllib gives no positions. But a complete statement is a TOML document by itself, and a part of one is not.
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
    """Return the keys of a header's table, and whether the header adds to a list (`[[...]]`)."""
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


_EXPECTED = {
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
    # Report an unknown key first: it may be a missing one, misspelt.
    problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    kind, location = problem["type"], [str(part) for part in problem["loc"]]
    # A location of pydantic may also name the branch of a union; keep only keys that the file has.
    depth = _depth(table, location)
    key = ".".join(location if kind == "missing" else location[:depth])
    received, instead = shorten(problem["input"]), rewriting.suggest(key, kind, problem["input"])
    if kind == "extra_forbidden":
        return key, f"unknown key{unknown_key_hint(location) or '; remove it or mend its spelling'}"
    if kind == "missing":
        return (
            key,
            'is missing; add [data] with source = "sklearn:digits", say' if key == "data" else "is missing; add it",
        )
    if kind == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        has_input = "received" in message or (isinstance(problem["input"], str) and received in message)
        return key, (message if has_input else f"{message}; received {received}") + instead
    words = _EXPECTED.get(kind)
    bounds = {
        name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        for name, bound in problem.get("ctx", {}).items()
    }
    message = f"must be {words.format(**bounds)}" if words else problem["msg"]
    hint = ""
    if kind == "literal_error" and isinstance(problem["input"], str):
        hint = closest(problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    return key, f"{message}; received {received}{hint or instead}"
