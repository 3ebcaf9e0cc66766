"""Opens exported models of the gallery with Keras and the users' own files, and nothing of ours.

`python tests/gallery/opened.py < what exported.py printed`: prints, as JSON, what is wrong with each.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rows


def own_classes(reference: str) -> dict[str, type]:
    """Return the classes of a user's own that stand in the file of a builder."""
    stem = Path(reference.rpartition(":")[0]).stem
    module = importlib.import_module(stem)
    return {name: kind for name, kind in vars(module).items() if inspect.isclass(kind) and kind.__module__ == stem}


def wrong(exported: dict[str, Any]) -> str:
    """Load a file and hold it against what the study had; return what is wrong, or ""."""
    if "problem" in exported:
        return exported["problem"]
    reference, source = exported["entry"]
    given = getattr(rows, source)()
    x, y = given["x_val"], given["y_val"]
    model = keras.models.load_model(exported["path"], custom_objects=own_classes(reference))
    if not model.compiled:
        lines = " ".join(exported["said"]["lines"])
        return "" if "not compiled" in lines else f"not compiled, and nobody said so: {lines}"
    values = model.evaluate(x, y, batch_size=len(x), verbose=0, return_dict=True)
    for name, value in values.items():
        had = exported["values"].get(f"val_{name}")
        # A vector of one number is that number; the study has longer ones by parts.
        if np.size(value) > 1:
            continue
        number = float(np.reshape(value, ()))
        if had is None or abs(number - had) > 1e-4 * max(1.0, abs(had)):
            return f"{name} is {number} in the file and {had} in the study"
    return ""


def main() -> None:
    """Open all files that are named on stdin."""
    found = {}
    for name, exported in json.load(sys.stdin).items():
        try:
            found[name] = wrong(exported)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
        keras.utils.clear_session()
    ours = sorted(name for name in sys.modules if name.split(".")[0] in ("search", "spaces", "models"))
    print(json.dumps({"wrong": {name: why for name, why in found.items() if why}, "ours": ours, "opened": len(found)}))


if __name__ == "__main__":
    main()
