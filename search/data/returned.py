"""Convert what a data function returns, or a file of arrays holds, to `Parts`; explain forms that are not supported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search.data import several
from search.data.arrays import FORMS, advice_on, to_array
from search.data.encodable import Encodable, encodables, is_frame, without_columns
from search.data.forms import check_indices, is_list_of_arrays, is_several, mapping_of
from search.data.labels import clean_labels
from search.data.parts import SPLITS, Part, Parts, pairs_of, rows_of
from search.data.roles import as_features, of_arrays, without_keys
from search.data.several import Bundle, Form
from search.errors import DataError
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.data.row_streams import Read
    from search.spec.settings import Columns

_SPLIT_NAMES = "|".join(SPLITS)
# x_image, y_train_price: one of several inputs or outputs.
_NAMED_KEY = re.compile(rf"(x|y)(_(?:{_SPLIT_NAMES}))?_(\w.*)")
_WEIGHTS_KEY = re.compile(rf"(?:w|weights?|sample_weights?)(?:_({_SPLIT_NAMES}))?")


@dataclass(frozen=True, eq=False)
class _Side:
    """The arrays of x or of y.

    Attributes:
        splits: split -> name -> (array, columns, `Part.rounded`).
        encoded: name -> an input, as far as it is encoded; empty for y.
    """

    letter: str
    form: Form
    splits: dict[str, dict[str, tuple[Array, tuple[str, ...], str]]]
    encoded: Mapping[str, Encodable] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.splits["train"])

    def part(self, split: str, name: str, y: Array, place: Any, roles: Mapping[str, Array]) -> Part:
        """Return the rows of an input beside the targets `y`."""
        features, columns, rounded = self.splits[split][name]
        source = self.encoded[name].sources.get(split) if name in self.encoded else None
        return Part(features, y, place, columns, rounded, roles, source)


def parts_of(
    result: Any,
    name: str,
    task: str | None = None,
    roles: Mapping[str, str] = {},
    *,
    target: str | None = None,
    columns: Columns | None = None,
    is_series: bool = False,
) -> Parts | Bundle:
    """Convert (x, y), (x, y, weights), pairs of these for training and test, or a mapping with keys such as x_train.

    x and y may each be a dictionary or tuple of arrays: several inputs or outputs. `roles`: role -> the name of its arrays
    beside x and y, or of a column of x. With `target`, convert a table of pandas that has the column, or (train, test) of
    such tables; in a series it is a feature, too, if it is a number.
    """
    if target is not None:
        result = _without_target(result, target, name, is_series=is_series)
    elif is_frame(result):
        raise DataError(
            f'{name}: received one table; which column is learnt? Add target = "NAME" to [data], or return (x, y)',
            key="data.target",
        )
    if isinstance(result, tuple | list) and not hasattr(result, "shape"):
        result = mapping_of(result, name)
    if not isinstance(result, Mapping):
        raise DataError(f"{name}: received {type(result).__name__}; {advice_on(result) or FORMS}")
    weights, others = _without_weights(result, name)
    arrays = _folded(others)
    pairs = pairs_of(without_keys(arrays, roles, name), name)
    keys = [{split: pair[side] for split, pair in pairs.items()} for side in (0, 1)]
    given = [{split: arrays[key] for split, key in of_side.items()} for of_side in keys]
    for split, key in keys[0].items():
        beside = {array: arrays[array] for role in roles.values() if (array := role + key[1:]) in arrays}
        sides = {key: given[0][split], keys[1][split]: given[1][split], **beside}
        check_indices({**sides, **({"the weights": weights[split]} if split in weights else {})}, name)
    x = _side("x", given[0], given[1], name, keys[0], roles, columns)
    y = _side("y", given[1], given[0], name, keys[1])
    by_output = _weights_of(weights, y, name)
    of_rows = {
        split: {
            **of_arrays(arrays, key, list(several.named(arrays[key], x.form).values()), roles, name),
            **by_output.get(split, {}),
        }
        for split, key in keys[0].items()
    }

    def parts(x_name: str, y_name: str, letter: str, label: str) -> Parts:
        splits = {}
        for split, key in keys[0].items():
            place = rows_of(name, key if label in ("x", "y") else label)
            splits[split] = x.part(split, x_name, y.splits[split][y_name][0], place, of_rows[split])
        where = name if label == letter else f"{name}, {label}"
        warnings = x.encoded[x_name].warnings if letter == "x" else ()
        return clean_labels(Parts(where, splits, task, warnings=warnings), target)

    _check_names(y.names, name)
    first_x, first_y = x.names[0], y.names[0]
    if x.form == y.form == "one" and not by_output:
        return parts("", "", "x", "x")
    inputs = {item: parts(item, first_y, "x", several.label("x", item, x.form)) for item in x.names}
    outputs = {item: parts(first_x, item, "y", several.label("y", item, y.form)) for item in y.names}
    if x.form == y.form == "one":
        outputs = inputs
    return Bundle(name, inputs, outputs, x.form, y.form)


def _check_names(outputs: list[str], name: str) -> None:
    for output in outputs:
        if output in ("val", "loss") or output.startswith("val_"):
            raise DataError(
                f"{name}: an output is named {output!r}, as Keras begins the names of its own metrics; rename it"
            )


def bundle_of(read: Read, name: str) -> Bundle:
    """Convert the sample and the validation rows of a stream."""
    bundle = Bundle.of(parts_of(read.arrays, name))
    if any(parts.splits["train"].encodable is not None for parts in bundle.inputs.values()):
        raise DataError(
            f"{name}: batches hold texts, and their words are known only after all are read; give token ids: adapt a "
            "keras.layers.TextVectorization in the data function, and map it over the batches"
        )
    warned = bundle.each(lambda parts: replace(parts, warnings=(*parts.warnings, *read.warnings)))
    return replace(warned, stream=read.stream)


def _without_target(result: Any, target: str, name: str, *, is_series: bool) -> Any:
    """Return tables of pandas as features and targets: a table, or a tuple of a training and a test table."""
    import pandas as pd

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
        learnt = frame.iloc[:, position]
        has_past = is_series and pd.api.types.is_numeric_dtype(learnt)
        pairs.append((frame if has_past else frame.drop(columns=frame.columns[position]), learnt))
    return pairs[0] if len(pairs) == 1 else tuple(pairs)


def arrays_of(keys: Mapping[str, Any], name: str) -> list[str]:
    """Return the keys of x and y among `keys`, without those of weights; names of several are gathered under one key."""
    return list(_folded(_without_weights(keys, name)[1]))


def _side(
    letter: str,
    given: Mapping[str, Any],
    other: Mapping[str, Any],
    name: str,
    keys: Mapping[str, str],
    roles: Mapping[str, str] = {},
    columns: Columns | None = None,
) -> _Side:
    """Return x or y in every split: one array, or several; `other` is the other side. Columns of `roles` are left out.

    Tables and texts of x are replaced by the numbers of their rows, which `_Side.encoded` explains.
    """
    forms = {
        split: several.form_of(value, is_several=is_several(value, other[split])) for split, value in given.items()
    }
    form = forms["train"]
    for split, its in forms.items():
        if its != form:
            raise DataError(
                f"{name}: {letter} is {_form_text(form)} in training and {_form_text(its)} in {split}; give the same form"
            )
    by_name = {split: several.named(value, form) for split, value in given.items()}
    several.same_names(by_name, name, letter)
    kept = as_features(roles, columns)
    taken = [column for column in roles.values() if column not in kept]
    values = {
        item: {split: without_columns(arrays[item], taken) for split, arrays in by_name.items()}
        for item in by_name["train"]
    }
    encoded: dict[str, Encodable] = {}
    if letter == "x":
        encoded = encodables(values, form, keys, columns, name)
        values = {item: its.values for item, its in encoded.items()}

    def array(split: str, item: str) -> tuple[Array, tuple[str, ...], str]:
        label = several.label(f"{letter}{'' if keys['train'] == letter else f'_{split}'}", item, form)
        return to_array(values[item][split], name, label)

    return _Side(letter, form, {split: {item: array(split, item) for item in values} for split in given}, encoded)


def _form_text(form: Form) -> str:
    return {"one": "one array", "dict": "a dictionary of arrays", "tuple": "several arrays"}[form]


def _weights_of(weights: Mapping[str, Any], y: _Side, name: str) -> dict[str, dict[str, Array]]:
    """Return split -> role -> weights (rows,), of all outputs or of each."""
    made: dict[str, dict[str, Array]] = {}
    for split, value in weights.items():
        if split not in y.splits:
            raise DataError(f"{name}: there are weights of the split {split!r}, which has no rows; remove them")
        is_by_output = isinstance(value, Mapping) or (y.form == "tuple" and is_list_of_arrays(value))
        for output, item in several.named(value, several.form_of(value, is_several=is_by_output)).items():
            what = f"the weights of {output!r}" if output else "the weights"
            if output and output not in y.names:
                raise DataError(
                    f"{name}: {what}: there is no such output; there are {', '.join(y.names).strip() or 'none'}"
                )
            array = to_array(item, name, what)[0]
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
