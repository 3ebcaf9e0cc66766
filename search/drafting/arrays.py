"""Files of arrays that need a data function: an .npz with other keys than x and y, a folder of .npy files."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from search.data.parts import SPLITS
from search.errors import DataError

_X = frozenset(("x", "data", "feature", "image", "img", "input", "sample", "sequence", "signal", "inp"))
_Y = frozenset(("y", "target", "label", "class", "output", "lbl", "out"))
_SPLITS = {**SPLITS, "training": "train", "tr": "train", "trn": "train", "dev": "val", "validation": "val", "valid": "val",
           "testing": "test", "te": "test", "tst": "test"}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of an .npz file, without its numbers; DataError if it is none."""
    from numpy.lib import format as npy

    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    shapes[member.removesuffix(".npy")] = _shape(file, npy)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not an .npz file ({error}); write it with numpy.savez") from None
    return shapes


def npy_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each .npy file of a folder: stem -> shape; empty if it has none."""
    from numpy.lib import format as npy

    shapes = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            with path.open("rb") as file:
                shapes[path.stem] = _shape(file, npy)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not an .npy file ({error}); write it with numpy.save") from None
    return shapes


def _shape(file: object, npy: object) -> tuple[int, ...]:
    version = npy.read_magic(file)  # type: ignore[attr-defined]
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0  # type: ignore[attr-defined]
    shape: tuple[int, ...] = read(file)[0]
    return shape


def keys_of(shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, str]:
    """Return the key of `data.source` for each array that is used: "x_train" -> "train_images".

    Names decide; of two arrays without telling names the one with more numbers is x. DataError if no pair of features and
    labels can be told.
    """
    keys: dict[str, str] = {}
    for key in shapes:
        role = _role(key)
        if role is None:
            continue
        if role in keys:
            raise DataError(f"{where}: {keys[role]!r} and {key!r} may both be {role}; name one of them {role}")
        keys[role] = key
    if not keys and len(shapes) == 2:
        first, second = sorted(shapes, key=lambda key: _size(shapes[key]), reverse=True)
        if shapes[first][:1] == shapes[second][:1]:
            keys = {"x": first, "y": second}
    if any("_" in role for role in keys) and "x_train" not in keys:
        keys = {(f"{role}_train" if role in ("x", "y") else role): key for role, key in keys.items()}
    kept = {role: key for role, key in keys.items() if _partner(role) in keys}
    if not {"x", "x_train"} & set(kept):
        there = ", ".join(f"{key} {shape}" for key, shape in list(shapes.items())[:12])
        raise DataError(
            f"{where}: names don't tell which array has the features and which the labels; there are {there or 'none'}; name "
            "them x and y, or x_train, y_train, x_test and y_test"
        )
    for role, key in kept.items():
        if role.startswith("x") and shapes[key][:1] != shapes[kept[_partner(role)]][:1]:
            raise DataError(
                f"{where}: {key} {shapes[key]} and {kept[_partner(role)]} {shapes[kept[_partner(role)]]} would be features "
                "and labels, and have different numbers of rows; make them equal"
            )
    return kept


def _partner(role: str) -> str:
    return ("y" if role[0] == "x" else "x") + role[1:]


def _role(key: str) -> str | None:
    """Return x, y, x_train, y_test ... if a key says which of them it is: "trainImages", "X_tr", "ytest"."""
    words = [word.lower() for part in re.split(r"[^A-Za-z]+", key) for word in _WORD.findall(part)]
    split, sides = "", []
    for word in words:
        glued = re.fullmatch(r"([xy])(train|test|val|valid|dev|tr|te)", word)
        for item in glued.groups() if glued else (word,):
            single = item.removesuffix("es") if item == "classes" else item.removesuffix("s")
            if item in _SPLITS:
                split = _SPLITS[item]
            elif single in _X or single in _Y:
                sides.append("x" if single in _X else "y")
            else:
                return None
    if len(set(sides)) != 1:
        return None
    return f"{sides[0]}_{split}" if split else sides[0]


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
