"""The features of an input as models get them: encoded, scaled, or kept as the source has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.data import encoding, exact, several
from search.data.splits import Scaling, scale
from search.data.texts import Vocabulary, unknown_warnings
from search.data.uses import in_memory
from search.data.windows import check_size
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.choosing import Chosen
    from search.data.parts import Array, Parts
    from search.data.table_encoding import Encoding
    from search.spec.settings import DataSection


@dataclass(frozen=True, eq=False)
class Features:
    """An input.

    Attributes:
        arrays: split -> rows as models get them.
        raw: the rows that judge models, as the source has them; of an encoded table column name -> (rows,).
        encoding: of a table or of texts; None for arrays.
    """

    arrays: dict[str, Array]
    raw: Any
    scaling: Scaling = field(default_factory=Scaling)
    encoding: Encoding | Vocabulary | None = None
    warnings: tuple[str, ...] = ()


def encoded(parts: Parts, chosen: Chosen, section: DataSection, how: str) -> Features:
    """Encode a table or texts, adapted on the training rows; `how` scales the numbers and dates of a table."""
    sources: dict[str, Any] = {split: part.encodable for split, part in parts.splits.items()}

    def numbers(origin: str, index: Array) -> Array:
        """Return the rows of a source: a split that a column gives has some rows of the whole."""
        rows: Array = parts.splits[origin].x[index, 0]
        return rows

    origin, index = chosen.training
    train = numbers(origin, index)
    adapted = encoding.adapt(sources[origin], train, section, how, parts.name)
    warnings = [
        warning
        for split, source in sources.items()
        for warning in encoding.warnings(adapted, source, train if split == origin else None, how, parts.name)
    ]
    if chosen.windows:
        return _windowed(parts, chosen, adapted, warnings)
    arrays = {
        split: encoding.encode(adapted, sources[source], numbers(source, index), parts.name)
        for split, (source, index) in chosen.rows.items()
    }
    source, index = chosen.rows["validation"]
    if isinstance(adapted, Vocabulary):
        warnings += unknown_warnings(adapted, sources[source], numbers(source, index), parts.name)
    source, index = chosen.rows[chosen.judged]
    raw = sources[source].raw(numbers(source, index))
    return Features(arrays, raw, encoding=adapted, warnings=tuple(warnings))


def _windowed(parts: Parts, chosen: Chosen, adapted: Encoding | Vocabulary, warnings: list[str]) -> Features:
    """Encode every row once, and return windows of encoded rows; the raw ones are column name -> (windows, window)."""
    check_size(chosen.windows, (adapted.width,), 4, parts.name)
    whole = {
        origin: encoding.encode(adapted, part.encodable, part.x[:, 0], parts.name)
        for origin, part in parts.splits.items()
    }
    windows = chosen.windows[chosen.judged]
    part = parts.splits[windows.origin]
    table: Any = part.encodable
    cells = table.raw(part.x[:, 0])
    raw = {name: windows.features(values) for name, values in cells.items()}
    return Features(chosen.features(whole), raw, encoding=adapted, warnings=tuple(warnings))


def scaled(parts: Parts, chosen: Chosen, how: str) -> Features:
    """Scale an array as a study of this single input does; whole numbers that float32 would change stay integers."""
    given = chosen.features({split: part.x for split, part in parts.splits.items()})
    raw = in_memory(given[chosen.judged])
    arrays = {f"x_{split}": array for split, array in given.items()}
    scaling = Scaling()
    if (dtype := exact.integer_dtype(parts, how)) is None:
        origin, rows = chosen.training
        scaling = scale(arrays, how, parts.name, parts.splits[origin].x[rows] if chosen.windows else None)
    else:
        exact.to_integers(arrays, dtype)
    return Features({key[2:]: array for key, array in arrays.items()}, raw, scaling)


def kept(parts: Parts, chosen: Chosen, *, is_stream: bool) -> Features:
    """Keep an array's dtype, one of several inputs or of a stream.

    Raises DataError for whole numbers of one of several inputs that are stored as reals, and that float32 would change.
    """
    if not is_stream:
        try:
            exact.integer_dtype(parts, "none")
        except DataError as error:
            # The fault "rounded" would mean that scaling mends it.
            raise DataError(str(error)) from None
    given = chosen.features({split: part.x for split, part in parts.splits.items()})
    return Features({split: several.kept(array, parts.name) for split, array in given.items()}, given[chosen.judged])


def raw_of(inputs: Mapping[str, Features], form: several.Form) -> Any:
    """Return the rows that judge models, as an exported model takes them.

    With several inputs of which one is encoded, they are one dictionary: the columns of tables, and the other inputs.
    """
    if all(features.encoding is None for features in inputs.values()) or form == "one":
        return several.packed({name: features.raw for name, features in inputs.items()}, form)
    flat: dict[str, Any] = {}
    for name, features in inputs.items():
        flat |= features.raw if isinstance(features.raw, Mapping) else {name: features.raw}
    return flat
