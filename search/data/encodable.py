"""Inputs of a data function that are encoded: tables of pandas that are not all numbers, and arrays of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.data import several
from search.data.columns import check_names, is_plain, without_dropped
from search.data.parts import rows_of
from search.data.several import Form
from search.data.table import Table, Texts
from search.data.tabular import part_of
from search.data.texts import texts_of
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.spec.settings import Columns


@dataclass(frozen=True, eq=False)
class Encodable:
    """An input in every split, as far as it is encoded.

    Attributes:
        values: split -> the values to convert: those given, without dropped columns, or the numbers of their rows.
        sources: split -> the columns of a table, or texts; empty for plain arrays.
    """

    values: dict[str, Any]
    sources: Mapping[str, Table | Texts] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def is_frame(value: Any) -> bool:
    """Return whether a value is a table of pandas; this does not import pandas."""
    return type(value).__module__.partition(".")[0] == "pandas" and type(value).__name__ == "DataFrame"


def without_columns(value: Any, columns: Iterable[str]) -> Any:
    """Return a table without some columns; any other value as it is."""
    taken = [column for column in columns if column in getattr(value, "columns", ())]
    return value.drop(columns=taken) if taken else value


def encodables(
    given: Mapping[str, Mapping[str, Any]],
    form: Form,
    keys: Mapping[str, str],
    columns: Columns | None,
    name: str,
) -> dict[str, Encodable]:
    """Return each input: a table or texts to be encoded, or its values as they are.

    Among several inputs of which one is encoded, tables of numbers are encoded as well, so that they are scaled.

    Args:
        given: input -> split -> value.
        keys: split -> the key of x, for errors.
        columns: the study's, for all tables together.
    """
    tables = {item: values for item, values in given.items() if all(map(is_frame, values.values()))}
    if columns is not None:
        if not tables:
            raise DataError(
                f"{name}: columns is for tables of pandas; received {type(next(iter(given.values()))['train']).__name__}: "
                "return a DataFrame for x, or remove columns",
                key="data.columns",
            )
        check_names(columns, [str(column) for values in tables.values() for column in values["train"].columns], name)
    labels = {item: {split: several.label(key, item, form) for split, key in keys.items()} for item in given}
    others: dict[str, Encodable] = {}
    for item, values in given.items():
        if item not in tables:
            _check_alike(values, labels[item], name)
            others[item] = _of_texts(values, labels[item], name)
    settings = {item: _restricted(columns, values["train"]) for item, values in tables.items()}
    is_encoded = any(each.sources for each in others.values()) or any(
        _is_encoded(values.values(), settings[item], name) for item, values in tables.items()
    )
    of_tables = _encoded_tables if is_encoded else _plain_tables
    made = {
        item: of_tables(values, labels[item], settings[item], name) if item in tables else others[item]
        for item, values in given.items()
    }
    if form != "one" and any(each.sources for each in made.values()):
        _check_distinct(made, name)
    return made


def _check_alike(values: Mapping[str, Any], labels: Mapping[str, str], name: str) -> None:
    """Refuse a table in one split that is to be encoded, and something else in another."""
    frames = [split for split, value in values.items() if is_frame(value) and not is_plain(value, None)]
    if other := next((split for split in values if frames and not is_frame(values[split])), ""):
        raise DataError(
            f"{name}: {labels[other]} is no table of pandas, and {labels[frames[0]]} is one that is not all numbers; give "
            "tables in every split"
        )


def _restricted(columns: Columns | None, frame: Any) -> Columns | None:
    """Return what the study sets for the columns of one of several tables."""
    if columns is None:
        return None
    names = [str(column) for column in frame.columns]
    kept = {kind: tuple(name for name in listed if name in names) for kind, listed in columns.by_kind().items()}
    return columns.model_copy(update=kept)


def _check_distinct(inputs: Mapping[str, Encodable], name: str) -> None:
    """Refuse names that two inputs, or columns of encoded tables, have: an exported model takes one dictionary of them."""
    seen: dict[str, str] = {}
    for item, its in inputs.items():
        table = its.sources.get("train")
        is_table = isinstance(table, Table)
        for each in (column.name for column in table.columns) if isinstance(table, Table) else (item,):
            what = f"a column of {item!r}" if is_table else "an input"
            if each in seen:
                raise DataError(
                    f"{name}: {each!r} is {seen[each]} and {what}; an exported model takes columns and other inputs in one "
                    "dictionary: rename one"
                )
            seen[each] = what


def _of_texts(values: Mapping[str, Any], labels: Mapping[str, str], name: str) -> Encodable:
    texts: dict[str, Texts | None] = {}
    for split in _training_first(values):
        of_train = texts.get("train")
        texts[split] = texts_of(
            values[split], rows_of(name, labels[split]), labels[split], may_be_numbers=of_train is not None
        )
    sources = {split: given for split, given in texts.items() if given is not None}
    if not sources:
        return Encodable(dict(values))
    if other := next((split for split in values if split not in sources), ""):
        raise DataError(
            f"{name}: {labels[next(iter(sources))]} is texts, and {labels[other]} is not; give texts in every split"
        )
    return Encodable({split: _numbered(len(given.values)) for split, given in sources.items()}, sources)


def _plain_tables(
    values: Mapping[str, Any],
    labels: Mapping[str, str],  # noqa: ARG001 (one signature with `_encoded_tables`)
    columns: Columns | None,
    name: str,
) -> Encodable:
    return Encodable({split: without_dropped(frame, columns, name) for split, frame in values.items()})


def _encoded_tables(
    values: Mapping[str, Any], labels: Mapping[str, str], columns: Columns | None, name: str
) -> Encodable:
    for frame in values.values():
        counts = Counter(str(column) for column in frame.columns)
        if len(counts) < frame.shape[1]:
            raise DataError(f"{name}: the column {counts.most_common(1)[0][0]!r} stands there twice; rename one")
    made: dict[str, Any] = {}
    tables: dict[str, Table] = {}
    warnings: list[str] = []
    # The columns of all splits are read by the kinds of the training rows.
    for split in _training_first(values):
        frame, place = values[split], rows_of(name, labels[split])
        part, warned = part_of(
            frame, _numbered(len(frame)), place, columns, name, like=tables.get("train"), is_encoded=True
        )
        made[split] = part.x
        if isinstance(part.encodable, Table):
            tables[split] = part.encodable
        warnings += warned
    return Encodable(made, tables, tuple(warnings))


def _training_first(splits: Iterable[str]) -> list[str]:
    return sorted(splits, key=lambda split: split != "train")


def _numbered(rows: int) -> Array:
    import numpy as np

    return np.arange(rows, dtype=np.int64)


def _is_encoded(tables: Iterable[Any], columns: Columns | None, name: str) -> bool:
    """Return whether tables of pandas are not all numbers, and so must be encoded."""
    return not all(is_plain(without_dropped(table, columns, name), columns) for table in tables)
