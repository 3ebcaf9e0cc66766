"""The devices of this machine and what a worker's environment must say to have one of them for itself.

Nothing here imports keras, tensorflow or jax: asking them would take seconds, and memory on the GPU.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from search.errors import UsageError

BACKENDS = ("tensorflow", "jax")

# The least recently used goes when compiled programs take more than this on disk.
COMPILE_CACHE_BYTES = 10**9


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU by its number, or the CPU."""

    gpu: int | None = None

    @property
    def name(self) -> str:
        return "cpu" if self.gpu is None else f"gpu:{self.gpu}"

    def environment(self, backend: str) -> dict[str, str]:
        """Return what makes a worker see this device only, and no more of its memory than it needs."""
        found = {
            "KERAS_BACKEND": backend,
            "CUDA_VISIBLE_DEVICES": "-1" if self.gpu is None else str(self.gpu),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
        }
        if self.gpu is None:
            found["JAX_PLATFORMS"] = "cpu"
        if backend == "jax":
            # A program that was compiled once is read from there by every later worker; whoever has set it, has their way.
            found |= {key: os.environ.get(key, value) for key, value in _compile_cache().items()}
        return found

    def claim(self, pid: int, number: int, count: int) -> None:
        """Give worker `number` of `count` its share of the cores, so that CPU workers don't fight for them."""
        if self.gpu is not None or count == 1 or not hasattr(os, "sched_setaffinity"):
            return
        cores = sorted(os.sched_getaffinity(0))
        with suppress(OSError):
            os.sched_setaffinity(pid, cores[number % len(cores) :: count] or cores)


def _compile_cache() -> dict[str, str]:
    """Return the settings of JAX's persistent compilation cache, in the user's cache folder."""
    # What is compiled for one kind of processor may not run on another that shares the home directory.
    cpu = Path("/proc/cpuinfo")
    kind = next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "") if cpu.exists() else ""
    machine = hashlib.sha256(f"{platform.machine()} {kind}".encode()).hexdigest()[:12]
    return {
        "JAX_COMPILATION_CACHE_DIR": str(platformdirs.user_cache_path("manyfit") / "xla" / machine),
        # Also the many small ones: together they are seconds of every start.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(COMPILE_CACHE_BYTES),
    }


def gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs of this machine, in the driver's order."""
    if shutil.which("nvidia-smi") is None:
        return []
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return []


def memory_of(gpu: int) -> int:
    """Return the bytes of an NVIDIA GPU's memory; 0 if its driver does not tell."""
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(
            ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return int(done.stdout.strip()) * 2**20
    return 0


def choose(wanted: Literal["auto"] | int | tuple[str | int, ...]) -> list[Device]:
    """Return the devices that `run.devices` stands for; UsageError for a GPU that is not there.

    "auto": every GPU, or else the CPU once. A number: so many GPUs, or without GPUs so many workers that share the cores.
    """
    there = gpus()
    if wanted == "auto":
        return [Device(number) for number in range(len(there))] or [Device()]
    if isinstance(wanted, int):
        if there and wanted > len(there):
            raise UsageError(f"run.devices: {wanted} devices are wanted and {len(there)} GPUs are there")
        return [Device(number if there else None) for number in range(wanted)]
    for device in wanted:
        if device != "cpu" and int(device) >= len(there):
            raise UsageError(f"run.devices: there is no GPU {device}; this machine has {len(there)}")
    return [Device() if device == "cpu" else Device(int(device)) for device in wanted]


def installed_backends() -> list[str]:
    """Return the backends of Keras that are installed, the default first."""
    return [name for name in BACKENDS if importlib.util.find_spec(name) is not None]


def choose_backend(wanted: str) -> str:
    """Return the backend that `run.backend` stands for; UsageError if it is not installed."""
    there = installed_backends()
    if wanted == "auto" and there:
        return there[0]
    if wanted in there:
        return wanted
    missing = "tensorflow" if wanted == "auto" else wanted
    raise UsageError(f"run.backend: {missing} is not installed; pip install 'manyfit[{missing}]'")
