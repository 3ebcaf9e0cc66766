"""docs/python.md as a notebook, in a kernel of Jupyter; and what a notebook alone can show: a bar, and the stop button."""

from __future__ import annotations

import os
import re
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from support import ROOT

from search.storage import records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = ROOT / "docs" / "python.md"


@contextmanager
def kernel(folder: Path, cells: list[str]) -> Iterator[NotebookClient]:
    """A notebook of these cells in a folder, with its kernel running."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells])
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with client.setup_kernel(env=environment):
        yield client


def shown(cell: Any) -> str:
    """Return all that a cell has shown, as text."""
    return "\n".join(
        str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", "")) for output in cell.outputs
    )


@pytest.mark.gallery
def test_every_example_of_the_page_runs_as_a_notebook(tmp_path):
    cells = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(cells) == 9
    with kernel(tmp_path, cells) as client:
        for index, cell in enumerate(client.nb.cells):
            client.execute_cell(cell, index)
    first, _, found, after, again, figures, arguments, _, changed = client.nb.cells
    assert "digits: 4 trials in" in shown(first)
    displays = [output for output in first.outputs if output.output_type == "display_data"]
    assert len(displays) == 1  # updated in place
    assert '<progress value="4" max="4"' in displays[0]["data"]["text/html"]
    assert not [output for output in found.outputs if output.get("name") == "stderr"]
    assert not [
        output for output in (*after.outputs, *again.outputs, *figures.outputs) if output.output_type == "error"
    ]
    assert "'task': 'regression'" in shown(arguments)
    assert "study 'small' was started with something else" in shown(changed)
    stored = records.load(tmp_path / "digits.db", "digits")
    assert len(stored.complete) + sum(trial.state == "PRUNED" for trial in stored.trials) == 6


@pytest.mark.gallery
def test_stop_button_stops_a_study_cleanly_and_the_kernel_goes_on(tmp_path):
    """The kernel survives with its variables, and the next run goes on."""
    cells = [
        """
        import numpy as np
        import manyfit as mf
        x = np.random.default_rng(0).normal(size=(400, 8)).astype("float32")
        y = (x[:, 0] > 0).astype("int32")
        def build(config, data):
            import keras
            return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(config["units"]), keras.layers.Dense(1)])
        study = mf.Study(
            build, (x, y), {"units": [4, 8]}, "val_accuracy", trials=2, epochs=300, search={"pruner": "none"},
            run={"engine": "fit", "backend": "jax"},
        )
        study.run()
        """,
        "print(len(study.trials), study.trials.state[0])",
        "study.run(trials=1)\nprint(study.trials.state[0], study.trials.epochs[0])",
    ]
    with kernel(tmp_path, cells) as client:
        presses = threading.Thread(target=_press_stop, args=(client, tmp_path / "study.db"))
        presses.start()
        with pytest.raises(CellExecutionError) as stopped:
            client.execute_cell(client.nb.cells[0], 0)
        presses.join()
        assert "KeyboardInterrupt" in str(stopped.value)
        assert "all of it stored" in str(stopped.value)
        assert "run() goes on" in str(stopped.value)
        client.execute_cell(client.nb.cells[1], 1)
        assert shown(client.nb.cells[1]) == "1 WAITING\n"
        client.execute_cell(client.nb.cells[2], 2)
        assert shown(client.nb.cells[2]).endswith("COMPLETE 300\n")


def _press_stop(client: NotebookClient, database: Path) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        try:
            if sum(len(trial.curve) for trial in records.load(database, "study").trials) > 3:
                break
        except Exception:  # noqa: S110 (it is being made)
            pass
        time.sleep(0.1)
    # Impatiently: the study stores what there is all the same, and a kernel that is idle by then takes no harm.
    for pause_s in (0, 1.2, 1.2):
        time.sleep(pause_s)
        os.kill(client.km.provisioner.pid, signal.SIGINT)
