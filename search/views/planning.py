"""What `manyfit plan` shows."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table


def table(found: dict[str, Any]) -> RenderableType:
    """Return a plan for people."""
    data, model = found["data"], found["model"]
    rows = Table.grid(padding=(0, 2))
    rows.add_row("study", f"{found['study']} in {found['storage']}: {found['objective']}")
    rows.add_row("trials", f"{found['trials']} of up to {found['epochs']} epochs, {found['done']} done")
    rows.add_row(
        "data",
        f"{data['task']}, rows of shape {tuple(data['input_shape'])}: {data['train_rows']} for training, "
        f"{data['validation_rows']} for validation, {data['test_rows']} held out",
    )
    rows.add_row(
        "model",
        f"{model['parameters']:,} parameters in {model['layers']} layers, {model['optimizer']}, {model['loss']}"
        if "parameters" in model
        else f"its builder fails in the middle of the space: {model.get('error', 'no model')}",
    )
    rows.add_row("space", ", ".join(found["space"]))
    rows.add_row("engine", found["how"])
    if found["memory"]["needed"]:
        needed, allowed = (f"{found['memory'][key] / 1e6:,.0f} MB" for key in ("needed", "allowed"))
        rows.add_row("memory", f"at most {needed} for all lanes, by the compiler's estimate; {allowed} may be used")
    for warning in found["warnings"]:
        rows.add_row("warning", warning)
    for note in found["notes"]:
        rows.add_row("note", note)
    return rows
