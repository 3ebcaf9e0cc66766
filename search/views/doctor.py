"""`manyfit doctor`: versions, devices and backends, each backend tried in its own process. Nothing here imports keras."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from search.engines import devices, pins
from search.spec.identity import versions

# A backend that takes longer hangs; a sound one can take half a minute for its first import on a GPU.
_TIMEOUT_S = 180

_PROBE = """
import json, sys, time
began = time.perf_counter()
import keras
import numpy as np
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.zeros((8, 4), "float32"), np.zeros((8, 1), "float32"), verbose=0)
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    seen = [d.name for d in tf.config.list_physical_devices()]
else:
    import jax
    seen = [str(d) for d in jax.devices()]
print(json.dumps({"devices": seen, "seconds": time.perf_counter() - began}))
"""


def examine(folder: Path) -> dict[str, Any]:
    """Examine this machine: versions, devices, and for each installed backend whether it trains a tiny model.

    Starts each backend, which takes seconds.
    """
    usage = shutil.disk_usage(folder)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(_memory_bytes() / 1e9, 1),
        "disk_free_gb": round(usage.free / 1e9, 1),
        "versions": versions(),
        "gpus": devices.gpus(),
        "backends": {name: _probe(name) for name in devices.installed_backends()},
    }


def problems(machine: dict[str, Any]) -> list[str]:
    """Return what keeps manyfit from working on a machine, as `examine` describes it."""
    lines = [
        f"{name} does not train: {backend['error']}"
        for name, backend in machine["backends"].items()
        if "error" in backend
    ]
    if not machine["backends"]:
        lines.append("no backend is installed; run `pip install -e '.[tensorflow]'`, or '.[jax]', in manyfit's folder")
    return lines


def table(machine: dict[str, Any]) -> RenderableType:
    """Return the result of `examine` as a table for people."""
    rows = Table.grid(padding=(0, 2))
    rows.add_row("python", f"{machine['python']} on {machine['platform']}")
    rows.add_row(
        "machine", f"{machine['cores']} cores, {machine['memory_gb']} GB memory, {machine['disk_free_gb']} GB disk free"
    )
    rows.add_row("versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    rows.add_row("GPUs", ", ".join(machine["gpus"]) or "none: training runs on the CPU")
    for name, backend in machine["backends"].items():
        works = f"starts and trains a tiny model in {backend['seconds']:.1f} s, sees {', '.join(backend['devices'])}"
        rows.add_row(name, f"does not train: {backend['error']}" if "error" in backend else works)
    return rows


def _probe(backend: str) -> dict[str, Any]:
    device = devices.choose("auto")[0]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE],
            env={**pins.clean(os.environ), **device.environment(backend)},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {_TIMEOUT_S} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
