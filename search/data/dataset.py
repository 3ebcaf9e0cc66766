"""The data of a study as its models get them, and the facts about them that a builder gets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search.data.several import Tree
from search.data.splits import Scaling
from search.data.table_encoding import Encoding

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.data.row_streams import Stream
    from search.data.texts import Vocabulary
    from search.data.uses import Use


@dataclass(frozen=True, slots=True)
class OutputInfo:
    """The facts about one of several outputs; the attributes are those of `DataInfo`."""

    task: str
    classes: int
    outputs: int
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataInfo:
    """The facts about the data that a builder gets.

    With several inputs, `input_shape` is () and `inputs` has their shapes. With several outputs, `task` is "several",
    `classes` and `outputs` are 0, and `targets` has the facts of each.

    Attributes:
        input_shape: the shape of one row.
        task: "classification", "binary" or "regression".
        classes: the number of classes; 2 for binary, 0 for regression.
        outputs: numbers that a model must give for a row: one per class, 1 for binary, one per target for regression.
        class_names: the class of each label 0, 1, ...; empty for regression.
        train_batches: batches of an epoch of rows that are read as they are needed; `train_rows` is then 0.
        inputs: name -> (shape of one row, dtype) of several inputs; those of a tuple are named "0", "1", ...
        targets: name -> facts of each of several outputs.
        vocabulary_size: of an array of texts: the token ids are below it; 0 for any other single input.
        vocabulary_sizes: name -> the same of each of several inputs that is an array of texts.
    """

    input_shape: tuple[int, ...]
    task: str
    classes: int
    outputs: int
    class_names: tuple[str, ...] = ()
    train_rows: int = 0
    validation_rows: int = 0
    test_rows: int = 0
    train_batches: int = 0
    inputs: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    targets: Mapping[str, OutputInfo] = field(default_factory=dict)
    vocabulary_size: int = 0
    vocabulary_sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Raw:
    """Rows as the source has them; an exported model takes rows of this form.

    Attributes:
        x_validation: the rows of `Data.x_validation` before any scaling or encoding. Of a table that is encoded: column name
            -> (rows,); with other inputs beside tables or texts: name of the column or input -> its rows.
        one_hot: the outputs whose labels are one-hot rows in the source; "" is the only one.
    """

    x_validation: Tree
    one_hot: frozenset[str] = frozenset()

    @property
    def is_one_hot(self) -> bool:
        """Whether the labels of the only output are one-hot rows in the source."""
        return "" in self.one_hot


@dataclass(frozen=True, eq=False)
class Data:
    """Arrays to train on and to validate with; the test rows are held out, only counted and fingerprinted.

    Loaded for another `Use` than a study's, the arrays hold the rows of that use.

    x and y are single arrays, or dictionaries or tuples of arrays for several inputs or outputs.

    Attributes:
        x_train, x_validation: float32, C-contiguous, (rows, *info.input_shape); int32 or int64 if they are whole numbers
            that float32 would change. One of several inputs keeps its dtype, but reals are float32, and integers int32 if
            that holds them.
        y_train, y_validation: in the shape that the source gave. Labels are (rows,), (rows, 1) or one-hot rows, int32
            (float32 where the source has floats); a regression's targets are (rows,) or (rows, targets, ...), float32. A
            source without a shape of its own (a column of a table, a named data set) gives (rows, 1) for a model of one
            output and (rows,) for several classes.
        fingerprint: 32 hex digits of all splits' bytes, shapes and dtypes, test rows included. Of y only the numbers count:
            `targets` has its form and the names of its classes.
        warnings: remarks on data that were taken, or left out, and may not be meant.
        scaling: the scaling that turned `raw` rows into these.
        encodings: input, or "" for a single one -> what turned the columns of its table, or its texts, into features.
        columns: name, kind, number of features and remarks of each column of a table and of each array of texts.
        own_splits: which of "validation" and "test" the source has itself.
        stream: the training rows, if they are read as they are needed; x_train and y_train are then a sample of them.
        place: training row -> where the source has it, such as "wine.csv, line 5"; None for windows, batches and use "full".
        w_train, w_validation: weights of rows (rows,), float32, or a dictionary or tuple of these by output; None without.
        is_full: whether the validation rows are among the training rows, so that they can judge nothing.
        folds: the data of each fold, of which these are the first; empty without folds, and if all rows train.
        rows: of a fold: the numbers of the rows that train and that judge, among the source's training rows.
    """

    info: DataInfo
    x_train: Tree
    y_train: Tree
    x_validation: Tree
    y_validation: Tree
    fingerprint: str
    raw: Raw
    scaling: Scaling
    warnings: tuple[str, ...] = ()
    own_splits: tuple[str, ...] = ()
    w_train: Tree | None = None
    w_validation: Tree | None = None
    stream: Stream | None = None
    encodings: Mapping[str, Encoding | Vocabulary] = field(default_factory=dict)
    columns: tuple[Mapping[str, Any], ...] = ()
    is_full: bool = False
    folds: tuple[Data, ...] = ()
    rows: tuple[Array, Array] | None = None
    place: Callable[[int], str] | None = None

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each column of the tables that are encoded."""
        tables = (encoding for encoding in self.encodings.values() if isinstance(encoding, Encoding))
        return {name: kind for table in tables for name, kind in table.columns.items()}

    @property
    def encoding(self) -> Any:
        """The encoding of a single input; None if it has none."""
        return self.encodings.get("")

    @property
    def has_several_outputs(self) -> bool:
        """Whether y is a dictionary or tuple of arrays."""
        return not hasattr(self.y_train, "shape")

    def output(self, name: str) -> Data:
        """Return the data as a model of this output alone would get them; "" is a single output."""
        if not self.has_several_outputs:
            return self
        info = self.info.targets[name]
        key: Any = name if isinstance(self.y_train, dict) else int(name)
        return replace(
            self,
            info=replace(
                self.info,
                task=info.task,
                classes=info.classes,
                outputs=info.outputs,
                class_names=info.class_names,
                targets={},
            ),
            y_train=self.y_train[key],
            y_validation=self.y_validation[key],
            raw=replace(self.raw, one_hot=frozenset([""] if name in self.raw.one_hot else [])),
            w_train=self.w_train[key] if isinstance(self.w_train, dict | tuple) else self.w_train,
            w_validation=self.w_validation[key] if isinstance(self.w_validation, dict | tuple) else self.w_validation,
        )

    @property
    def targets(self) -> dict[str, Any]:
        """What the fingerprint leaves out: the classes' names, and the shape and dtype of targets as models get them."""
        if self.has_several_outputs:
            return {name: self.output(name).targets for name in self.info.targets}
        more = ", ".join(map(str, self.y_train.shape[1:]))
        return {
            "classes": list(self.info.class_names),
            "shape": f"(rows, {more})" if more else "(rows,)",
            "dtype": str(self.y_train.dtype),
        }


def together(folds: Sequence[Data], use: Use) -> Data:
    """Return the data of all folds, with one fingerprint; where training and validation rows all train, only one fold's."""
    digest = hashlib.blake2b("".join(fold.fingerprint for fold in folds).encode(), digest_size=16).hexdigest()
    warnings = tuple(dict.fromkeys(warning for fold in folds for warning in fold.warnings))
    alike = tuple(replace(fold, fingerprint=digest, warnings=warnings) for fold in folds)
    return replace(alike[0], folds=() if use == "full" else alike)
