"""Sentences of scikit-learn's own documentation, and the part of it that each is about: texts without a download."""

from __future__ import annotations

import importlib
import inspect
import re

import numpy as np

PARTS = ("cluster", "ensemble", "linear_model", "metrics", "preprocessing")
# Names of classes; and what code, formulas, links and headings have.
_CLASS = r"\w*[a-z][A-Z]\w*"
_CODE = r"[<>$/|{}\\]|:\w+:|--|\.\.\."


def load():
    """Return sentences as `x`, the parts' names as `y`, and what each sentence documents: `group`.

    Sentences that document several things, and differ in no more than numbers and names of classes, are left out: they are
    templates, and would lie in several splits.
    """
    found: dict[str, dict[tuple[str, str], str]] = {}
    for part in PARTS:
        module = importlib.import_module(f"sklearn.{part}")
        for name in sorted(module.__all__):
            for sentence in _sentences(inspect.getdoc(getattr(module, name)) or ""):
                words = " ".join(re.findall("[a-z]+", re.sub(_CLASS, "", sentence).lower()))
                found.setdefault(words, {}).setdefault((part, name), sentence)
    rows = [(sentence, *place) for places in found.values() if len(places) == 1 for place, sentence in places.items()]
    x, y, group = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    return {"x": x, "y": y, "group": group}


def _sentences(text):
    for sentence in re.split(r"(?<=[.:])\s+|\n\n", text):
        if not re.search(_CODE, sentence) and len(re.findall(r"[A-Za-z]{2,}", sentence)) >= 5:
            yield " ".join(sentence.split())
