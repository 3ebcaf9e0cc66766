"""Trains models of the gallery by the fit engine and exports each as `manyfit export --model` does.

`python tests/gallery/exported.py FOLDER GROUP GROUP/NAME ...`: writes FOLDER/NAME.keras and prints, as JSON, what the study had
at the best epoch and what the export said. `opened.py` opens the files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
from entries import Entry
from run import SEED, chosen, session
from support import ORIGIN

from search.engines import failures, orders
from search.engines.protocol import SaveModel
from search.trials.events import Assignment, EpochEnd, Failed, Member, Verdict


def export(entry: Entry, folder: Path) -> dict[str, Any]:
    """Train an entry's first member, keep its best weights, and write its model."""
    started = session(entry, "fit", folder)
    engine, member, weights = started.engine, Member(0), folder / f"{entry.name}.npz"
    config = {**started.fixed, **entry.configs[0]}
    engine.start(Assignment(member, config, entry.epochs, SEED))
    curve: list[dict[str, float]] = []
    while len(curve) < entry.epochs:
        for event in engine.advance():
            if isinstance(event, Failed):
                return {"problem": event.reason}
            if isinstance(event, EpochEnd):
                curve.append(dict(event.metrics))
                if ends := len(curve) == entry.epochs:
                    engine.keep(member, weights)
                engine.apply([Verdict(member, ends)])
    path = folder / f"{entry.name}.keras"
    answer = orders.answer(started.trainer, SaveModel(member, config, SEED, str(weights), str(path), ORIGIN))
    engine.close()
    if isinstance(answer, Failed):
        return {"problem": answer.reason}
    best = min(curve, key=lambda metrics: metrics["val_loss"])
    return {"path": str(path), "values": best, "said": answer.detail, "entry": [entry.reference, entry.rows]}


def main(folder: Path, wanted: list[str]) -> None:
    """Export entries and print what each came to."""
    found = {}
    for entry in chosen(wanted):
        if entry.no_file:
            continue
        try:
            found[entry.name] = export(entry, folder)
        except Exception as error:
            found[entry.name] = {"problem": failures.one_line(error)}
        print(entry.name, found[entry.name], file=sys.stderr, flush=True)
        keras.utils.clear_session()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
