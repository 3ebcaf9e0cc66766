"""What "auto" settings resolve to: engine, backend, precision, lanes and devices."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Resolved:
    """What "auto" settings resolve to. Everything except the devices is fixed at a study's first start.

    Every start chooses the devices again, because the machine may have changed; the study's history records a change.

    Attributes:
        engine: "auto" until a worker has tried the model.
        why: the reason, if "auto" resolved to fit.
        lanes: as in `Ready.lanes`; empty for an engine without lanes.
        structures: as in `Ready.structures`.
    """

    engine: str
    backend: str
    devices: list[str]
    versions: dict[str, str]
    precision: str = "float32"
    why: str = ""
    lanes: dict[str, int] = field(default_factory=dict)
    structures: list[str] = field(default_factory=list)


def describe(resolved: Resolved) -> str:
    """Return in one line how a study's trials are trained, and why."""
    each = "" if len(resolved.devices) == 1 else f" in each of {len(resolved.devices)} workers"
    where = f"on {resolved.backend}, {', '.join(resolved.devices)}"
    if not resolved.lanes:
        return f"{resolved.engine} {where}: one trial at a time{each}" + (
            f"; no lanes: {resolved.why}" if resolved.why else ""
        )
    programs = resolved.lanes.get("programs", 1)
    many = "one compiled program" if programs == 1 else f"up to {programs} compiled programs"
    places = resolved.lanes.get("places", 1)
    beside = "; trials of rarer structures by fit beside them" if resolved.structures else ""
    return f"{resolved.engine} {where}: {places} trial{'' if places == 1 else 's'} at a time{each}, in {many}{beside}"
