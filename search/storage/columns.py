"""What the columns of a database may hold: SQLite stores any value in any column, whatever its type says.

Every query stops at the first value that is wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

_WHOLE = "typeof({0}) != 'integer'"
_REAL = "typeof({0}) NOT IN ('integer', 'real') OR {0} NOT BETWEEN -1.7e308 AND 1.7e308"
_TEXT = "typeof({0}) != 'text'"
# CASE and not OR: SQLite may look at the sides of an OR in any order, and json_type raises for what is no JSON.
_NO_OBJECT = (
    "CASE WHEN typeof({0}) != 'text' THEN 1 WHEN NOT json_valid({0}) THEN 1 WHEN json_type({0}) != 'object' THEN 1"
)
_OBJECT = f"{_NO_OBJECT} ELSE 0 END"
_NUMBERS = (
    f"{_NO_OBJECT} ELSE EXISTS (SELECT 1 FROM json_each({{0}}) WHERE type NOT IN ('integer', 'real', 'null')) END"  # noqa: S608
)
# Optuna's columns hold a moment as text, our own too.
_MOMENT = "typeof({0}) != 'text' OR julianday({0}) IS NULL"


def _maybe(wrong: str) -> str:
    return f"{{0}} IS NOT NULL AND ({wrong})"


# Table -> column -> (when a value of it is wrong, what belongs there).
_COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "manyfit_studies": {
        "study_id": (_WHOLE, "a whole number"),
        "format": (_WHOLE, "a whole number"),
        "file": ("typeof({0}) NOT IN ('text', 'blob')", "a path"),
        "settings": (_OBJECT, "a JSON object"),
        "resolved": (_OBJECT, "a JSON object"),
        "identity": (_OBJECT, "a JSON object"),
        "seconds": (f"{_REAL} OR {{0}} < 0", "a number of seconds"),
        "spent": (
            _NUMBERS,
            "a JSON object of numbers",
        ),
        "ended": (_TEXT, "a text"),
    },
    "manyfit_epochs": {
        "trial_id": (_WHOLE, "a whole number"),
        "replica": (_WHOLE, "a whole number"),
        "epoch": (f"{_WHOLE} OR {{0}} < 1", "a whole number from 1"),
        "seconds": (f"{_REAL} OR {{0}} < 0", "a number of seconds"),
        "metrics": (
            _NUMBERS,
            "a JSON object of numbers",
        ),
    },
    "manyfit_events": {
        "study_id": (_WHOLE, "a whole number"),
        "at": (_MOMENT, "a moment"),
        "kind": (_TEXT, "a text"),
        "detail": (_OBJECT, "a JSON object"),
    },
    "studies": {"study_name": (_TEXT, "a text")},
    "study_directions": {
        "direction": ("{0} NOT IN ('MINIMIZE', 'MAXIMIZE', 'NOT_SET')", "MINIMIZE or MAXIMIZE"),
        "study_id": (_WHOLE, "a whole number"),
    },
    "study_system_attributes": {"key": (_TEXT, "a text"), "value_json": (_TEXT, "a text")},
    "trials": {
        "number": (f"{_WHOLE} OR {{0}} < 0", "a whole number"),
        "study_id": (_maybe(_WHOLE), "a whole number"),
        "state": ("{0} IS NULL OR {0} NOT IN ('RUNNING', 'WAITING', 'COMPLETE', 'PRUNED', 'FAIL')", "a trial's state"),
        "datetime_start": (_maybe(_MOMENT), "a moment"),
        "datetime_complete": (_maybe(_MOMENT), "a moment"),
    },
    "trial_params": {
        "trial_id": (_WHOLE, "a whole number"),
        "param_name": (_TEXT, "a text"),
        "param_value": (_REAL, "a number"),
        "distribution_json": (_TEXT, "a text"),
    },
    "trial_values": {
        "trial_id": (_WHOLE, "a whole number"),
        "objective": (_WHOLE, "a whole number"),
        "value": (_maybe(_REAL), "a number"),
        "value_type": ("{0} NOT IN ('FINITE', 'INF_POS', 'INF_NEG')", "FINITE"),
    },
    "trial_intermediate_values": {
        "trial_id": (_WHOLE, "a whole number"),
        "step": (_WHOLE, "a whole number"),
        "intermediate_value": (_maybe(_REAL), "a number"),
    },
    "trial_user_attributes": {
        "trial_id": (_WHOLE, "a whole number"),
        "key": (_TEXT, "a text"),
        "value_json": (_TEXT, "a text"),
    },
    "trial_system_attributes": {
        "trial_id": (_WHOLE, "a whole number"),
        "key": (_TEXT, "a text"),
        "value_json": (_TEXT, "a text"),
    },
}
_OF_LISTS = ("manyfit_studies", "studies", "trials", "trial_values")
# Attributes by which a trial goes on: key -> what `json_type` says of them.
_ATTRIBUTES = {
    "ended": ("text",),
    "why": ("text",),
    "detail": ("text",),
    "best_epoch": ("integer",),
    "epochs": ("integer",),
    "seconds": ("integer", "real"),
}


def problems(connection: sqlite3.Connection, *, briefly: bool = False) -> Iterator[str]:
    """Yield what is wrong with the values in the columns of a database of ours, a line for each column.

    `briefly`: only of the tables that a list of studies is made of.
    """
    for table, columns in _COLUMNS.items():
        if briefly and table not in _OF_LISTS:
            continue
        for column, (wrong, right) in columns.items():
            # `IS NOT 0`: a comparison with NULL is NULL, and then the value is wrong, too.
            yield from _wrong(connection, table, column, f"({wrong.format(column)}) IS NOT 0", right)
    for key, kinds in () if briefly else _ATTRIBUTES.items():
        types = ", ".join(f"'{kind}'" for kind in kinds)
        # What is no JSON at all is told when it is read.
        kind = "CASE WHEN json_valid(value_json) THEN json_type(value_json) END"
        condition = f"key = '{key}' AND {kind} NOT IN ({types})"
        yield from _wrong(connection, "trial_user_attributes", "value_json", condition, f"what {key!r} is")


def _wrong(connection: sqlite3.Connection, table: str, column: str, condition: str, right: str) -> Iterator[str]:
    # As hexadecimal digits: what stands there need not be text that can be decoded.
    query = (
        f"SELECT typeof({column}), hex(substr(CAST({column} AS BLOB), 1, 60)), 0 FROM {table} WHERE {condition} LIMIT 1"  # noqa: S608 (names are ours)
    )
    row = connection.execute(query).fetchone()
    if row is not None:
        kind, digits, _ = row
        text = bytes.fromhex(digits or "").decode("utf-8", "backslashreplace")
        received = "nothing" if kind == "null" else repr(text)
        yield f"{table}.{column} holds {received} where {right} belongs"
