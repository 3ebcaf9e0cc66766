"""What `manyfit plan` prints."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table

from search.reading import tomltext

_SHOWN_COLUMNS = 40


def training_rows(data: dict[str, Any]) -> str:
    """Return how many rows, or batches of rows that are read as they are needed, an epoch has."""
    batches = data.get("train_batches", 0)
    return f"{batches} batches an epoch" if batches else str(data["train_rows"])


def _rows(data: dict[str, Any]) -> str:
    """Return what a row holds: the shape of each input, the task of each output."""
    tasks = ", ".join(f"{name}: {target['task']}" for name, target in data.get("targets", {}).items()) or data["task"]
    inputs = data.get("inputs", {})
    shapes = ", ".join(f"{name} {tuple(shape)} {dtype}" for name, (shape, dtype) in inputs.items())
    return f"{tasks}; rows of {shapes}" if inputs else f"{tasks}, rows of shape {tuple(data['input_shape'])}"


def structures(plan: dict[str, Any]) -> str:
    """Return which structures get compiled programs, which train beside them, and what compiling costs."""
    counted, programs = plan["structures"], plan["programs"]
    seconds = counted.get("compile_s", 0.0)
    cost = f"; compiling took {seconds:.1f} s for the largest" if seconds else ""
    if not counted.get("draws"):
        return f"{'one program' if programs == 1 else f'up to {programs}, a program each'}{cost}"
    how_many = f"{counted['structures']} in {counted['draws']} draws of the space"
    in_lanes = f"{programs} get a program each, with about {counted['share']:.0%} of the trials"
    beside = "a trial of any other compiles its own steps and trains by fit beside the lanes"
    most_used = [f"{_params(one['params'])}: {one['share']:.0%} of the trials" for one in counted["most_used"]]
    return "\n".join([f"{how_many}; {in_lanes}{cost}", beside, *most_used])


def _params(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {tomltext.value(value)}" for name, value in params.items() if value is not None)


def table(plan: dict[str, Any]) -> RenderableType:
    """Return a plan as a table for people."""
    data, model = plan["data"], plan["model"]
    of_folds = f" (the first of {plan['folds']} folds)" if plan["folds"] > 1 else ""
    rows = Table.grid(padding=(0, 2))
    rows.add_row("study", f"{plan['study']} in {plan['storage']}: {plan['objective']}")
    rows.add_row("trials", f"{plan['trials']} of up to {plan['epochs']} epochs, {plan['done']} done")
    rows.add_row(
        "data",
        f"{_rows(data)}: {training_rows(data)} for training, "
        f"{data['validation_rows']} for validation{of_folds}, {data['test_rows']} held out",
    )
    rows.add_row(
        "model",
        f"{model['parameters']:,} parameters in {model['layers']} layers, {model['optimizer']}, {model['loss']}"
        if "parameters" in model
        else f"its builder fails in the middle of the space: {model.get('error', 'no model')}",
    )
    for column in plan["columns"][:_SHOWN_COLUMNS]:
        what = f"{column['kind']}: {column['how']}" if column["how"] else column["kind"]
        rows.add_row("column", f"{column['name']}: {what}" + ("" if column["features"] else " (nothing to learn from)"))
    if len(plan["columns"]) > _SHOWN_COLUMNS:
        rows.add_row("", f"and {len(plan['columns']) - _SHOWN_COLUMNS} more columns")
    rows.add_row("space", "\n".join(f"{name} = {tomltext.value(entry)}" for name, entry in plan["space"].items()))
    rows.add_row("engine", plan["how"])
    if plan["structures"]:
        rows.add_row("structures", structures(plan))
    if plan["memory"]["needed"]:
        needed, allowed = (f"{plan['memory'][key] / 1e6:,.0f} MB" for key in ("needed", "allowed"))
        rows.add_row("memory", f"at most {needed} for all lanes, by the compiler's estimate; {allowed} may be used")
    for refusal in plan["refused"]:
        rows.add_row("refused", refusal)
    if plan["refused"]:
        rows.add_row("", "`manyfit run` would stop here with exit code 2; mend the file, or add --allow-unused")
    for warning in plan["warnings"]:
        if warning not in plan["refused"]:
            rows.add_row("warning", warning)
    for note in plan["notes"]:
        rows.add_row("note", note)
    return rows
