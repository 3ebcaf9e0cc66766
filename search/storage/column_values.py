"""Check the values in a database's columns: SQLite stores any value in any column, whatever the column's type.

Each query stops at the first wrong value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from search.errors import DamagedError

_NOT_WHOLE = "typeof({0}) != 'integer'"
_FINITE = "BETWEEN -1.7e308 AND 1.7e308"
_NOT_REAL = f"typeof({{0}}) NOT IN ('integer', 'real') OR {{0}} NOT {_FINITE}"
_NOT_TEXT = "typeof({0}) != 'text'"
# CASE, not OR: SQLite may evaluate the sides of an OR in any order, and json_type raises for text that is not JSON.
_UNLESS_OBJECT = (
    "CASE WHEN typeof({0}) != 'text' THEN 1 WHEN NOT json_valid({0}) THEN 1 WHEN json_type({0}) != 'object' THEN 1"
)
_NOT_OBJECT = f"{_UNLESS_OBJECT} ELSE 0 END"
_NOT_NUMBERS = (
    f"{_UNLESS_OBJECT} ELSE EXISTS (SELECT 1 FROM json_each({{0}}) WHERE type NOT IN ('integer', 'real', 'null') "  # noqa: S608
    f"OR NOT coalesce(value, 0) {_FINITE}) END"
)
# Optuna's tables and ours hold a moment as text.
_NOT_MOMENT = "typeof({0}) != 'text' OR julianday({0}) IS NULL"


def _unless_null(wrong: str) -> str:
    return f"{{0}} IS NOT NULL AND ({wrong})"


# Table -> column -> (SQL condition of a wrong value, the expected value in words).
_COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "manyfit_studies": {
        "study_id": (_NOT_WHOLE, "a whole number"),
        "format": (_NOT_WHOLE, "a whole number"),
        "file": ("typeof({0}) NOT IN ('text', 'blob')", "a path"),
        "settings": (_NOT_OBJECT, "a JSON object"),
        "resolved": (_NOT_OBJECT, "a JSON object"),
        "identity": (_NOT_OBJECT, "a JSON object"),
        "seconds": (f"{_NOT_REAL} OR {{0}} < 0", "a number of seconds"),
        "spent": (
            _NOT_NUMBERS,
            "a JSON object of numbers",
        ),
        "ended": (_NOT_TEXT, "a text"),
    },
    "manyfit_epochs": {
        "trial_id": (_NOT_WHOLE, "a whole number"),
        "replica": (_NOT_WHOLE, "a whole number"),
        "epoch": (f"{_NOT_WHOLE} OR {{0}} < 1", "a whole number from 1"),
        "seconds": (f"{_NOT_REAL} OR {{0}} < 0", "a number of seconds"),
        "metrics": (
            _NOT_NUMBERS,
            "a JSON object of numbers",
        ),
    },
    "manyfit_events": {
        "study_id": (_NOT_WHOLE, "a whole number"),
        "at": (_NOT_MOMENT, "a moment"),
        "kind": (_NOT_TEXT, "a text"),
        "detail": (_NOT_OBJECT, "a JSON object"),
    },
    "studies": {"study_name": (_NOT_TEXT, "a text")},
    "study_directions": {
        "direction": ("{0} NOT IN ('MINIMIZE', 'MAXIMIZE', 'NOT_SET')", "MINIMIZE or MAXIMIZE"),
        "study_id": (_NOT_WHOLE, "a whole number"),
    },
    "study_system_attributes": {"key": (_NOT_TEXT, "a text"), "value_json": (_NOT_TEXT, "a text")},
    "trials": {
        "number": (f"{_NOT_WHOLE} OR {{0}} < 0", "a whole number"),
        "study_id": (_unless_null(_NOT_WHOLE), "a whole number"),
        "state": ("{0} IS NULL OR {0} NOT IN ('RUNNING', 'WAITING', 'COMPLETE', 'PRUNED', 'FAIL')", "a trial's state"),
        "datetime_start": (_unless_null(_NOT_MOMENT), "a moment"),
        "datetime_complete": (_unless_null(_NOT_MOMENT), "a moment"),
    },
    "trial_params": {
        "trial_id": (_NOT_WHOLE, "a whole number"),
        "param_name": (_NOT_TEXT, "a text"),
        "param_value": (_NOT_REAL, "a number"),
        "distribution_json": (_NOT_TEXT, "a text"),
    },
    "trial_values": {
        "trial_id": (_NOT_WHOLE, "a whole number"),
        "objective": (_NOT_WHOLE, "a whole number"),
        "value": (_unless_null(_NOT_REAL), "a number"),
        "value_type": ("{0} NOT IN ('FINITE', 'INF_POS', 'INF_NEG')", "FINITE"),
    },
    "trial_intermediate_values": {
        "trial_id": (_NOT_WHOLE, "a whole number"),
        "step": (_NOT_WHOLE, "a whole number"),
        "intermediate_value": (_unless_null(_NOT_REAL), "a number"),
    },
    "trial_user_attributes": {
        "trial_id": (_NOT_WHOLE, "a whole number"),
        "key": (_NOT_TEXT, "a text"),
        "value_json": (_NOT_TEXT, "a text"),
    },
    "trial_system_attributes": {
        "trial_id": (_NOT_WHOLE, "a whole number"),
        "key": (_NOT_TEXT, "a text"),
        "value_json": (_NOT_TEXT, "a text"),
    },
}
_LISTED_TABLES = ("manyfit_studies", "studies", "trials", "trial_values")
# User attributes that manyfit reads back: key -> the JSON types that it expects.
_ATTRIBUTES = {
    "ended": ("text",),
    "why": ("text",),
    "detail": ("text",),
    "best_epoch": ("integer",),
    "epochs": ("integer",),
    "seconds": ("integer", "real"),
}


def check(connection: sqlite3.Connection, path: Path, *, briefly: bool = False) -> None:
    """Check all columns, or with `briefly` those that `manyfit list` reads; DamagedError if one holds a wrong value."""
    for problem in problems(connection, briefly=briefly):
        raise DamagedError(f"{path} is damaged: {problem}", advise_on=path)


def problems(connection: sqlite3.Connection, *, briefly: bool = False) -> Iterator[str]:
    """Yield a line for each column of Optuna's tables and ours that holds a wrong value.

    `briefly` checks only the tables that `manyfit list` reads.
    """
    for table, columns in _COLUMNS.items():
        if briefly and table not in _LISTED_TABLES:
            continue
        for column, (wrong, expected) in columns.items():
            # `IS NOT 0`: a comparison with NULL is NULL, and then the value is wrong, too.
            yield from _wrong(connection, table, column, f"({wrong.format(column)}) IS NOT 0", expected)
    for key, json_types in () if briefly else _ATTRIBUTES.items():
        types = ", ".join(f"'{json_type}'" for json_type in json_types)
        # Text that is not JSON, such as NaN, has no type.
        wrong = f"NOT json_valid(value_json) THEN 1 WHEN json_type(value_json) NOT IN ({types}) THEN 1"
        finite = f"json_extract(value_json, '$') {_FINITE}" if json_types != ("text",) else "1"
        condition = f"key = '{key}' AND CASE WHEN {wrong} ELSE NOT {finite} END"
        yield from _wrong(connection, "trial_user_attributes", "value_json", condition, f"what {key!r} is")


def _wrong(connection: sqlite3.Connection, table: str, column: str, condition: str, expected: str) -> Iterator[str]:
    # In hexadecimal, because the value may be text that can't be decoded.
    query = (
        f"SELECT typeof({column}), hex(substr(CAST({column} AS BLOB), 1, 60)), 0 FROM {table} WHERE {condition} LIMIT 1"  # noqa: S608 (names are ours)
    )
    row = connection.execute(query).fetchone()
    if row is not None:
        sql_type, digits, _ = row
        text = bytes.fromhex(digits or "").decode("utf-8", "backslashreplace")
        received = "nothing" if sql_type == "null" else repr(text)
        yield f"{table}.{column} holds {received} where {expected} belongs"
