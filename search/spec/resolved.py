"""What "auto" came to: engine, backend, precision and lanes, fixed at a study's first start, and devices."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Resolved:
    """What "auto" came to: fixed at a study's first start and obeyed ever after, but for the devices.

    Those are chosen anew at every start, for they may be others by then; the study's history says when they were.

    Attributes:
        engine: "auto" until a worker has looked at the model.
        why: the reason, if auto came to fit.
        lanes: what `Ready.lanes` says; empty for an engine without lanes.
    """

    engine: str
    backend: str
    devices: list[str]
    versions: dict[str, str]
    precision: str = "float32"
    why: str = ""
    lanes: dict[str, int] = field(default_factory=dict)


def how(resolved: Resolved) -> str:
    """Say in a line how a study's trials are trained, and why."""
    each = "" if len(resolved.devices) == 1 else f" in each of {len(resolved.devices)} workers"
    where = f"on {resolved.backend}, {', '.join(resolved.devices)}"
    if not resolved.lanes:
        return f"{resolved.engine} {where}: one trial at a time{each}" + (
            f"; no lanes: {resolved.why}" if resolved.why else ""
        )
    programs = resolved.lanes.get("programs", 1)
    many = "one compiled program" if programs == 1 else f"up to {programs} compiled programs"
    places = resolved.lanes.get("places", 1)
    return f"{resolved.engine} {where}: {places} trial{'' if places == 1 else 's'} at a time{each}, in {many}"
