"""Sentences of scikit-learn's own documentation, and the part of it that each is about: texts without a download."""

from __future__ import annotations

import importlib
import inspect
import re

import numpy as np

PARTS = ("cluster", "ensemble", "linear_model", "metrics", "preprocessing")


def load():
    """Return sentences as `x`, the parts' names as `y`, and what each sentence documents: `group`.

    Sentences in which several parts, or several things of one part, agree are left out: they are templates.
    """
    found: dict[str, set[tuple[str, str]]] = {}
    for part in PARTS:
        module = importlib.import_module(f"sklearn.{part}")
        for name in sorted(module.__all__):
            for sentence in _sentences(inspect.getdoc(getattr(module, name)) or ""):
                found.setdefault(sentence, set()).add((part, name))
    rows = [(sentence, *places.pop()) for sentence, places in sorted(found.items()) if len(places) == 1]
    x, y, group = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    return {"x": x, "y": y, "group": group}


def _sentences(text):
    for sentence in re.split(r"(?<=[.:])\s+|\n\n", text):
        if ">>>" not in sentence and len(re.findall(r"[A-Za-z]{2,}", sentence)) >= 5:
            yield " ".join(sentence.split())
