"""Convert what a data function returns, or a file of arrays holds, to `Parts`; explain forms that are not supported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from search.data import several
from search.data.columns import is_plain, without_dropped
from search.data.exact import FLOAT64_WHOLE, rounding_message, whole_number
from search.data.labels import clean_labels
from search.data.parts import SPLITS, Part, Parts, pairs_of, rows_of
from search.data.roles import of_arrays, without_keys
from search.data.several import Bundle, Form
from search.data.tabular import part_of
from search.errors import DataError
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.data.row_streams import Read
    from search.data.table import Table
    from search.spec.settings import Columns

_FORMS = (
    "return (x, y), (x, y, weights), ((x_train, y_train), (x_test, y_test)) or a dictionary with x_train, y_train, "
    "x_validation, y_validation, x_test, y_test"
)
_LARGEST_DENSE = 4 * 2**30
_MOST_INPUTS = 8


_SPLIT_NAMES = "|".join(SPLITS)
# x_image, y_train_price: one of several inputs or outputs.
_NAMED_KEY = re.compile(rf"(x|y)(_(?:{_SPLIT_NAMES}))?_(\w.*)")
_WEIGHTS_KEY = re.compile(rf"(?:w|weights?|sample_weights?)(?:_({_SPLIT_NAMES}))?")


@dataclass(frozen=True, eq=False)
class _Side:
    """The arrays of x or of y: split -> name -> (array, columns, `Part.rounded`)."""

    letter: str
    form: Form
    splits: dict[str, dict[str, tuple[Array, tuple[str, ...], str]]]

    @property
    def names(self) -> list[str]:
        return list(self.splits["train"])

    def one(self, name: str) -> dict[str, tuple[Array, tuple[str, ...], str]]:
        return {split: arrays[name] for split, arrays in self.splits.items()}


def parts_of(
    result: Any,
    name: str,
    task: str | None = None,
    roles: Mapping[str, str] = {},
    *,
    target: str | None = None,
    columns: Columns | None = None,
) -> Parts | Bundle:
    """Convert (x, y), (x, y, weights), pairs of these for training and test, or a mapping with keys such as x_train.

    x and y may each be a dictionary or tuple of arrays: several inputs or outputs. `roles`: role -> the name of its arrays
    beside x and y, or of a column of x. With `target`, convert a table of pandas that has the column, or (train, test) of
    such tables.
    """
    if target is not None:
        result = _without_target(result, target, name)
    elif is_frame(result):
        raise DataError(
            f'{name}: received one table; which column is learnt? Add target = "NAME" to [data], or return (x, y)',
            key="data.target",
        )
    if isinstance(result, tuple | list) and not hasattr(result, "shape"):
        result = _mapping_of(result, name)
    if not isinstance(result, Mapping):
        raise DataError(f"{name}: received {type(result).__name__}; {_advice(result) or _FORMS}")
    weights, others = _without_weights(result, name)
    arrays = _folded(others)
    pairs = pairs_of(without_keys(arrays, roles, name), name)
    encoded, tables, warnings = _encoded(
        arrays, {split: key for split, (key, _) in pairs.items()}, roles, columns, name
    )
    given = [{split: encoded[pair[side]] for split, pair in pairs.items()} for side in (0, 1)]
    x, y = (
        _side(letter, side, other, name, key, roles if letter == "x" else {})
        for letter, side, other, key in zip("xy", given, given[::-1], pairs["train"], strict=True)
    )
    by_output = _weights_of(weights, y, name)
    of_rows = {}
    for split, (key, _) in pairs.items():
        value = arrays[key] if x.form == "one" else next(iter(several.named(arrays[key], x.form).values()))
        of_rows[split] = {**of_arrays(arrays, key, value, roles, name), **by_output.get(split, {})}

    def parts(x_name: str, y_name: str, letter: str, label: str) -> Parts:
        splits = {}
        for split, (features, names, rounded) in x.one(x_name).items():
            place = rows_of(name, pairs[split][0] if label in ("x", "y") else label)
            table = tables.get(split)
            splits[split] = Part(features, y.one(y_name)[split][0], place, names, rounded, of_rows[split], table)
        where = name if label == letter else f"{name}, {label}"
        return clean_labels(Parts(where, splits, task, warnings=tuple(warnings)), target)

    for output in y.names:
        if output in ("val", "loss") or output.startswith("val_"):
            raise DataError(
                f"{name}: an output is named {output!r}, as Keras begins the names of its own metrics; rename it"
            )
    first_x, first_y = x.names[0], y.names[0]
    if x.form == y.form == "one" and not by_output:
        return parts("", "", "x", "x")
    inputs = {item: parts(item, first_y, "x", several.label("x", item, x.form)) for item in x.names}
    outputs = {item: parts(first_x, item, "y", several.label("y", item, y.form)) for item in y.names}
    if x.form == y.form == "one":
        outputs = inputs
    return Bundle(name, inputs, outputs, x.form, y.form)


def bundle_of(read: Read, name: str) -> Bundle:
    """Convert the sample and the validation rows of a stream."""
    bundle = Bundle.of(parts_of(read.arrays, name))
    told = bundle.each(lambda parts: replace(parts, warnings=(*parts.warnings, *read.warnings)))
    return replace(told, stream=read.stream)


def _encoded(
    arrays: dict[str, Any], keys: Mapping[str, str], roles: Mapping[str, str], columns: Columns | None, name: str
) -> tuple[dict[str, Any], dict[str, Table], list[str]]:
    """Return the arrays, the columns of tables to be encoded by split, and warnings.

    Features (`keys`: split -> key) in such tables are replaced by the numbers of their rows; dropped columns are left out.
    """
    import numpy as np

    frames = {split: _without_columns(arrays[key], roles.values()) for split, key in keys.items()}
    if not _is_encoded(list(frames.values()), columns, name):
        if columns is None:
            return arrays, {}, []
        kept = {keys[split]: without_dropped(frame, columns, name) for split, frame in frames.items()}
        return {**arrays, **kept}, {}, []
    replaced: dict[str, Any] = {}
    tables: dict[str, Table] = {}
    warnings: list[str] = []
    # The columns of all splits are read by the kinds of the training rows.
    for split in sorted(frames, key=lambda split: split != "train"):
        frame, place = frames[split], rows_of(name, keys[split])
        part, warned = part_of(
            frame, np.arange(len(frame)), place, columns, name, like=tables.get("train"), is_encoded=True
        )
        replaced[keys[split]] = part.x
        if part.table is not None:
            tables[split] = part.table
        warnings += warned
    return {**arrays, **replaced}, tables, warnings


def is_frame(value: Any) -> bool:
    """Return whether a value is a table of pandas; this does not import pandas."""
    return type(value).__module__.partition(".")[0] == "pandas" and type(value).__name__ == "DataFrame"


def _without_target(result: Any, target: str, name: str) -> Any:
    """Return tables of pandas as features and targets: a table, or a tuple of a training and a test table."""
    frames = list(result) if isinstance(result, tuple) else [result]
    if not all(map(is_frame, frames)) or len(frames) > 2:
        raise DataError(
            f"{name}: target = {target!r} is for a function that returns a table of pandas, or (train, test) of tables; "
            f"received {type(result).__name__}: return one, or remove target",
            key="data.target",
        )
    pairs = []
    for frame in frames:
        names = [str(column) for column in frame.columns]
        if names.count(target) != 1:
            what = "no" if target not in names else "more than one"
            raise DataError(
                f"{name}: the table has {what} column {target!r}{closest(target, names)}; it has {', '.join(names[:20])}",
                key="data.target",
            )
        position = names.index(target)
        pairs.append((frame.drop(columns=frame.columns[position]), frame.iloc[:, position]))
    return pairs[0] if len(pairs) == 1 else tuple(pairs)


def _is_encoded(tables: list[Any], columns: Columns | None, name: str) -> bool:
    """Return whether the features are tables of pandas that are not all numbers, and so must be encoded."""
    if not all(map(is_frame, tables)):
        if columns is not None:
            raise DataError(
                f"{name}: columns is for tables of pandas; received {type(tables[0]).__name__}: return a DataFrame for x, or "
                "remove columns",
                key="data.columns",
            )
        return False
    if all(is_plain(without_dropped(table, columns, name), columns) for table in tables):
        return False
    for table in tables:
        counts = Counter(str(column) for column in table.columns)
        if len(counts) < table.shape[1]:
            raise DataError(f"{name}: the column {counts.most_common(1)[0][0]!r} stands there twice; rename one")
    return True


def arrays_of(keys: Mapping[str, Any], name: str) -> list[str]:
    """Return the keys of x and y among `keys`, without those of weights; names of several are gathered under one key."""
    return list(_folded(_without_weights(keys, name)[1]))


def _side(
    letter: str, given: Mapping[str, Any], other: Mapping[str, Any], name: str, key: str, roles: Mapping[str, str]
) -> _Side:
    """Return x or y in every split: one array, or several; `other` is the other side. Columns of `roles` are left out."""
    forms = {
        split: several.form_of(value, is_several=_is_several(value, other[split])) for split, value in given.items()
    }
    form = forms["train"]
    for split, its in forms.items():
        if its != form:
            raise DataError(
                f"{name}: {letter} is {_form_text(form)} in training and {_form_text(its)} in {split}; give the same form"
            )
    by_name = {split: several.named(value, form) for split, value in given.items()}
    several.same_names(by_name, name, letter)
    splits = {
        split: {
            item: _to_array(
                _without_columns(value, roles.values()),
                name,
                several.label(f"{letter}{'' if key == letter else f'_{split}'}", item, form),
            )
            for item, value in arrays.items()
        }
        for split, arrays in by_name.items()
    }
    return _Side(letter, form, splits)


def _without_columns(value: Any, columns: Iterable[str]) -> Any:
    taken = [column for column in columns if column in getattr(value, "columns", ())]
    return value.drop(columns=taken) if taken else value


def _form_text(form: Form) -> str:
    return {"one": "one array", "dict": "a dictionary of arrays", "tuple": "several arrays"}[form]


def _weights_of(weights: Mapping[str, Any], y: _Side, name: str) -> dict[str, dict[str, Array]]:
    """Return split -> role -> weights (rows,), of all outputs or of each."""
    made: dict[str, dict[str, Array]] = {}
    for split, value in weights.items():
        if split not in y.splits:
            raise DataError(f"{name}: there are weights of the split {split!r}, which has no rows; remove them")
        is_by_output = isinstance(value, Mapping) or (y.form == "tuple" and _is_list_of_arrays(value))
        for output, item in several.named(value, several.form_of(value, is_several=is_by_output)).items():
            what = f"the weights of {output!r}" if output else "the weights"
            if output and output not in y.names:
                raise DataError(
                    f"{name}: {what}: there is no such output; there are {', '.join(y.names).strip() or 'none'}"
                )
            array = _to_array(item, name, what)[0]
            array = array[:, 0] if array.shape[1:] == (1,) else array
            rows = len(y.splits[split][output or y.names[0]][0])
            if array.shape != (rows,):
                raise DataError(
                    f"{name}: {what} in {split} have the shape {array.shape}; give one number for each of {rows} rows"
                )
            made.setdefault(split, {})[f"{several.WEIGHTS} {output}".strip()] = array
    roles = sorted({role for of_split in made.values() for role in of_split})
    for split in y.splits if roles else ():
        if missing := [role for role in roles if role not in made.get(split, {})]:
            raise DataError(
                f"{name}: there are no {missing[0]} in {split}; give them for every split, 1 for rows that count once"
            )
    outputs = [role.removeprefix(several.WEIGHTS).strip() for role in roles]
    if outputs and outputs != [""] and set(outputs) != set(y.names):
        missing = [output for output in y.names if output not in outputs]
        raise DataError(
            f"{name}: there are no weights of {', '.join(missing)}; give one array for all outputs, or one for each"
        )
    return made


def _without_weights(result: Mapping[Any, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the weights out of a mapping: (split -> weights, the other arrays)."""
    weights: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    used: dict[str, str] = {}
    for key, value in result.items():
        match = _WEIGHTS_KEY.fullmatch(str(key))
        if match is None:
            arrays[str(key)] = value
            continue
        split = SPLITS[match[1] or "train"]
        if split in weights:
            raise DataError(f"{name}: has both {used[split]} and {key}; keep one of them")
        weights[split], used[split] = value, str(key)
    return weights, arrays


def _folded(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Gather keys such as x_image and x_meta in one dictionary of several inputs; a single odd key stays as it is."""
    known = {f"{letter}{ending}" for letter in "xy" for ending in ("", *(f"_{split}" for split in SPLITS))}
    matches = {key: match for key in arrays if key not in known and (match := _NAMED_KEY.fullmatch(key))}
    names: dict[str, set[str]] = {}
    for match in matches.values():
        names.setdefault(match[1], set()).add(match[3])
    folded: dict[str, Any] = {}
    for key, value in arrays.items():
        match = matches.get(key)
        if match is None or max(map(len, names.values())) < 2 or f"{match[1]}{match[2] or ''}" in arrays:
            folded[key] = value
        else:
            folded.setdefault(f"{match[1]}{match[2] or ''}", {})[match[3]] = value
    return folded


def _mapping_of(result: tuple[Any, ...] | list[Any], name: str) -> dict[str, Any]:
    """Return the arrays of a tuple by their keys."""
    pairs = [item for item in result if isinstance(item, tuple)]
    if (
        len(result) == len(pairs) == 2
        and len(pairs[0]) == len(pairs[1]) in (2, 3)
        and not _are_sides(pairs[0], pairs[1], name)
    ):
        keys = [f"{key}_{split}" for split in ("train", "test") for key in ("x", "y", "w")[: len(pairs[0])]]
        return dict(zip(keys, (item for pair in pairs for item in pair), strict=True))
    if len(result) == 2:
        return {"x": result[0], "y": result[1]}
    if len(result) == 3 and len(pairs) == 3:
        raise DataError(
            f"{name}: received three pairs; say which is which: return {{'x_train': ..., 'y_train': ..., 'x_validation': "
            "..., 'y_validation': ..., 'x_test': ..., 'y_test': ...}"
        )
    if len(result) == 3 and _are_weights(result[2], result[1]):
        return {"x": result[0], "y": result[1], "w": result[2]}
    if len(result) == 3:
        raise DataError(
            f"{name}: received 3 values, and the third is not one weight a row; return (x, y) or (x, y, weights); with more "
            "splits return a dictionary with x_train, y_train, x_validation, y_validation, x_test, y_test"
        )
    raise DataError(f"{name}: received a {type(result).__name__} of {len(result)} values; {_FORMS}")


def _are_sides(one: tuple[Any, ...], other: tuple[Any, ...], name: str) -> bool:
    """Whether two tuples are several inputs and outputs, not training and test; DataError if they may be either."""
    shapes = [getattr(item, "shape", None) for item in (*one, *other)]
    if any(shape is None or not shape for shape in shapes) or len({shape[0] for shape in shapes if shape}) > 1:
        return False
    per_row = [tuple(shape[1:]) for shape in shapes if shape]
    if all(shape in ((), (1,)) for shape in per_row):
        raise DataError(
            f"{name}: received two tuples of {len(one)} arrays, all of as many rows with one number each: training and test, "
            "or several inputs and outputs? Return a dictionary with x_train, y_train, x_test and y_test, or dictionaries of "
            "arrays for x and y"
        )
    # The rows of training and test would be alike.
    return per_row[0] != per_row[len(one)]


def _are_weights(value: Any, y: Any) -> bool:
    """Whether the third of three values is one number a row, or such an array for every output."""
    import numpy as np

    if isinstance(value, Mapping):
        return isinstance(y, Mapping)
    try:
        array, rows = np.asarray(value), len(next(iter(y.values())) if isinstance(y, Mapping) else y)
    except (ValueError, TypeError, StopIteration):
        return False
    if isinstance(y, tuple | list) and _is_list_of_arrays(y):
        rows = len(y[0])
    return array.dtype.kind in "biuf" and array.ndim == 1 and len(array) == rows


def _is_several(value: Any, other: Any) -> bool:
    """Whether a value is several inputs or outputs: a mapping, or a list of arrays that each hold every row."""
    if isinstance(value, Mapping):
        return True
    if not _is_list_of_arrays(value):
        return False
    lengths = {item.shape[0] for item in value}
    if isinstance(other, Mapping):
        other = next(iter(other.values()), None)
    rows = len(other) if hasattr(other, "__len__") and getattr(other, "shape", None) != () else -1
    is_by_rows = len(value) == rows
    if is_by_rows and _is_list_of_arrays(other) and len(value) <= _MOST_INPUTS:
        is_by_rows = not (lengths == {item.shape[0] for item in other} and min(lengths) > len(value))
    return not is_by_rows and (len(lengths) > 1 or lengths == {rows} or _is_list_of_arrays(other))


def _is_list_of_arrays(value: Any) -> bool:
    return (
        isinstance(value, tuple | list) and bool(value) and all(len(getattr(item, "shape", ())) > 0 for item in value)
    )


def _advice(value: Any) -> str:
    """Return what to return instead of an object that yields batches, or of None; "" for anything else."""
    names = {cls.__name__ for cls in type(value).__mro__}
    modules = {cls.__module__.partition(".")[0] for cls in type(value).__mro__}
    if value is None:
        return f"the function has no return, or an array is missing: {_FORMS}"
    if hasattr(value, "as_numpy_iterator"):
        return (
            "return arrays: x, y = map(np.array, zip(*dataset.unbatch().as_numpy_iterator())) for a batched dataset of "
            "(features, labels); then return x, y"
        )
    if names & {"PyDataset", "Sequence"} and modules & {"keras", "tensorflow", "tf_keras"}:
        return "return arrays: x, y = map(np.concatenate, zip(*(dataset[i] for i in range(len(dataset))))); then return x, y"
    if isinstance(value, Iterator) or "DataLoader" in names:
        return (
            "return arrays, of as many batches as you mean: x, y = map(np.concatenate, zip(*itertools.islice(batches, "
            "100))); then return x, y"
        )
    return ""


def _to_array(value: Any, name: str, key: str) -> tuple[Array, tuple[str, ...], str]:
    """Return an array and, for a pandas table, the names of its columns and `Part.rounded`."""
    import numpy as np

    if value is None or (advice := _advice(value)):
        advice = "give one array for it" if value is None else advice
        raise DataError(f"{name}: {key} is {'None' if value is None else type(value).__name__}; {advice}")
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        return _from_sparse(value, name, key), (), ""
    if type(value).__module__.partition(".")[0] == "pandas":
        return _from_pandas(value, name, key)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        row = int(np.argwhere(np.ma.getmaskarray(value))[0][0])
        raise DataError(
            f"{rows_of(name, key)(row)}: has masked values; fill them in (x.filled(0), say) or remove such rows"
        )
    try:
        array = np.asarray(value)
    except Exception as error:  # noqa: BLE001 (conversion of another library's array may raise anything)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: {key} can't be made an array: {first}; return rows of equal length") from None
    if isinstance(value, list | tuple):
        _check_exact(array, value, name, key)
    return _typed(array, name, key), (), ""


def _check_exact(array: Array, value: Any, name: str, key: str) -> None:
    """Refuse whole numbers of Python that are beside reals and that float64 rounds."""
    import numpy as np

    if array.dtype.kind != "f":
        return
    is_large = np.abs(array) >= FLOAT64_WHOLE
    # An object takes many times the memory of a number, so make objects of one row at a time.
    for row in np.flatnonzero(is_large.any(axis=tuple(range(1, array.ndim)))).tolist():
        for item in np.asarray(value[row], dtype=object)[is_large[row]].flat:
            whole = whole_number(item)
            if whole is not None and int(float(whole)) != whole:
                raise DataError(rounding_message(rows_of(name, key)(row), whole))


def _typed(array: Array, name: str, key: str) -> Array:
    """Return an array of Python objects as an array of texts, or of numbers and booleans."""
    import numpy as np

    if array.dtype.kind == "T":
        return array.astype(str)
    if array.dtype.kind != "O" or array.ndim == 0:
        return array
    types = {type(item) for item in array.flat}
    if all(issubclass(cls, str) for cls in types):
        return array.astype(str)
    if all(issubclass(cls, bool | int | float | np.bool_ | np.number) for cls in types):
        numbers = np.array(array.tolist())
        _check_exact(numbers, array, name, key)
        return numbers
    is_text = any(issubclass(cls, str) for cls in types)
    expected = str if is_text else (bool, int, float, np.generic)
    index = next(index for index, item in np.ndenumerate(array) if not isinstance(item, expected))
    item = array[index]
    what = "among texts" if is_text else "no number"
    if item is None or type(item).__name__ == "NAType" or (isinstance(item, float) and np.isnan(item)):
        what = "a missing value"
    raise DataError(
        f"{rows_of(name, key)(index[0])}: {str(item)[:80]!r} ({type(item).__name__}) is {what}; give plain arrays of numbers"
        + (", true/false or text" if key.startswith("y") else ": encode text as numbers (pandas: get_dummies)")
    )


def _from_sparse(value: Any, name: str, key: str) -> Array:
    """Convert a sparse matrix to a dense array; DataError if that is too large."""
    import numpy as np

    size = int(np.prod(value.shape)) * np.dtype(value.dtype).itemsize
    if size > _LARGEST_DENSE:
        raise DataError(
            f"{name}: {key} is a sparse matrix of shape {value.shape}, {size / 2**30:.0f} GiB when written out; models see "
            "dense rows: use fewer columns (sklearn.decomposition.TruncatedSVD), or return x.toarray() if that fits"
        )
    return np.asarray(value.toarray())


def _from_pandas(value: Any, name: str, key: str) -> tuple[Array, tuple[str, ...], str]:
    """Convert a table or a column of pandas, of any dtypes; only labels may be texts."""
    import numpy as np
    import pandas as pd

    from search.data.frames import matrix_of

    if isinstance(value, pd.DataFrame):
        dtypes = set(value.dtypes)
        columns = tuple(str(column) for column in value.columns)
        if len(dtypes) == 1 and isinstance(next(iter(dtypes)), np.dtype) and next(iter(dtypes)).kind in "biuf":
            return value.to_numpy(), columns, ""
        if key.startswith("y") and not any(pd.api.types.is_numeric_dtype(dtype) for dtype in dtypes):
            return _typed(value.to_numpy(dtype=object), name, key), columns, ""
        values, rounded = matrix_of(value, rows_of(name, key))
        return values, columns, rounded
    if (
        isinstance(value, pd.Series)
        and not isinstance(value.dtype, np.dtype)
        and pd.api.types.is_numeric_dtype(value.dtype)
    ):
        values, rounded = matrix_of(value.to_frame(), rows_of(name, key))
        is_truth = pd.api.types.is_bool_dtype(value.dtype) and values.dtype.kind != "f"
        return values[:, 0] == 1 if is_truth else values[:, 0], (), rounded
    return _typed(np.asarray(value), name, key), (), ""
