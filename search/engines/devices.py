"""The devices of this machine, and the environment variables that give a worker one of them alone.

CUDA_VISIBLE_DEVICES limits the GPUs, as for every CUDA program: a job of a cluster sees only its own.
Only NVIDIA GPUs are detected; on a machine with others, training uses the CPU.
Nothing here imports keras, tensorflow or jax: that would take seconds, and memory on the GPU.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from search.errors import UsageError

BACKENDS = ("tensorflow", "jax")

# When the compile cache grows beyond this, JAX deletes the least recently used programs.
COMPILE_CACHE_BYTES = 10**9


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU by its number among the visible ones, or the CPU.

    Attributes:
        entry: the GPU's entry in CUDA_VISIBLE_DEVICES: a number, or the UUID of a GPU or MIG instance. "": the same as `gpu`.
    """

    gpu: int | None = None
    entry: str = ""

    @property
    def name(self) -> str:
        return "cpu" if self.gpu is None else f"gpu:{self.gpu}"

    def environment(self, backend: str) -> dict[str, str]:
        """Return variables that restrict a worker to this device, and to the memory that it needs."""
        variables = {
            "KERAS_BACKEND": backend,
            "CUDA_VISIBLE_DEVICES": "-1" if self.gpu is None else self.entry or str(self.gpu),
            # Number GPUs as nvidia-smi does; by default CUDA may put the fastest first.
            "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
        }
        if self.gpu is None:
            variables["JAX_PLATFORMS"] = "cpu"
        if backend == "jax":
            # Later workers read compiled programs from this cache. Variables that the user has set win.
            variables |= {key: os.environ.get(key, value) for key, value in _compile_cache().items()}
        return variables

    def claim(self, pid: int, number: int, count: int) -> None:
        """Pin worker `number` of `count` to its share of the cores, so that CPU workers don't compete for cores."""
        if self.gpu is not None or count == 1 or not hasattr(os, "sched_setaffinity"):
            return
        cores = sorted(os.sched_getaffinity(0))
        with suppress(OSError):
            os.sched_setaffinity(pid, cores[number % len(cores) :: count] or cores)


def _compile_cache() -> dict[str, str]:
    """Return the settings of JAX's persistent compilation cache, in the user's cache folder."""
    # One folder per processor type: machines may share a home directory, and a program for one CPU may not run on another.
    cpu = Path("/proc/cpuinfo")
    flags = next((row for row in cpu.read_text().splitlines() if row.startswith("flags")), "") if cpu.exists() else ""
    machine = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]
    # Store the many small programs, too: together they cost seconds at every start.
    settings = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        # No limit in a folder of the user's: JAX would delete programs of others, and where one of them was stored without
        # a limit, JAX can store nothing more (the file of its last use is missing).
        return settings
    folder = platformdirs.user_cache_path("manyfit") / "xla" / machine
    limit = str(COMPILE_CACHE_BYTES)
    return {**settings, "JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_COMPILATION_CACHE_MAX_SIZE": limit}


def gpus() -> list[str]:
    """Return the names of the visible NVIDIA GPUs, in the order of their numbers."""
    names = _installed()
    return [names[int(entry)] if entry.isdecimal() else entry for entry in visible()]


def visible() -> list[str]:
    """Return the entry of CUDA_VISIBLE_DEVICES for each GPU that this process may use, in order.

    As in CUDA, the list ends before the first entry that names no GPU: "" and "-1" leave none. If unset, all are visible.
    """
    count = len(_installed())
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    if variable is None or not count:
        return [str(number) for number in range(count)]
    entries = [entry.strip() for entry in variable.split(",")]
    uuids = _uuids() if any(entry.startswith(("GPU-", "MIG-")) for entry in entries) else []
    accepted: list[str] = []
    for entry in entries:
        is_number = entry.isdecimal() and entry.isascii() and int(entry) < count
        # A UUID may be shortened to a unique prefix. If the driver lists no UUIDs of its type, accept it unchecked.
        same = [uuid for uuid in uuids if uuid[:4] == entry[:4]]
        is_uuid = entry.startswith(("GPU-", "MIG-")) and (not same or sum(uuid.startswith(entry) for uuid in same) == 1)
        if not (is_number or is_uuid) or entry in accepted:
            break
        accepted.append(str(int(entry)) if is_number else entry)
    return accepted


def _installed() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs, in the driver's order."""
    return [row.strip() for row in _query("--query-gpu=name", "--format=csv,noheader").splitlines() if row.strip()]


def _uuids() -> list[str]:
    """Return the UUIDs of GPUs and MIG instances that the driver lists."""
    return re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", _query("-L"))


def memory_of(entry: str) -> int:
    """Return the memory in bytes of the GPU with this entry in CUDA_VISIBLE_DEVICES; 0 if its driver reports none."""
    mebibytes = _query(f"--id={entry}", "--query-gpu=memory.total", "--format=csv,noheader,nounits").strip()
    return int(mebibytes) * 2**20 if mebibytes.isdecimal() else 0


def _query(*arguments: str) -> str:
    """Return the output of nvidia-smi; "" if it does not exist or fails."""
    if shutil.which("nvidia-smi") is None:
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout
    return ""


def choose(wanted: Literal["auto"] | int | tuple[str | int, ...]) -> list[Device]:
    """Return the devices that `run.devices` means; UsageError for a GPU that does not exist.

    "auto": every visible GPU, or else the CPU once. A number: that many GPUs, or without GPUs that many workers, which share
    the cores. A list: GPUs by their numbers among the visible ones, or "cpu".
    """
    available = [Device(n, "" if entry == str(n) else entry) for n, entry in enumerate(visible())]
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    limit = "" if variable is None else f" (CUDA_VISIBLE_DEVICES is {variable!r})"
    if wanted == "auto":
        return available or [Device()]
    if isinstance(wanted, int):
        if available and wanted > len(available):
            raise UsageError(f"run.devices: {wanted} devices are wanted and {len(available)} GPUs are there{limit}")
        return available[:wanted] if available else [Device()] * wanted
    for device in wanted:
        if device != "cpu" and int(device) >= len(available):
            raise UsageError(f"run.devices: there is no GPU {device}; this machine has {len(available)}{limit}")
    return [Device() if device == "cpu" else available[int(device)] for device in wanted]


def installed_backends() -> list[str]:
    """Return the installed backends of Keras, the default first."""
    return [name for name in BACKENDS if importlib.util.find_spec(name) is not None]


def choose_backend(wanted: str) -> str:
    """Return the backend that `run.backend` means; UsageError if it is not installed."""
    installed = installed_backends()
    if wanted == "auto" and installed:
        return installed[0]
    if wanted in installed:
        return wanted
    missing = "tensorflow" if wanted == "auto" else wanted
    raise UsageError(
        f"run.backend: {missing} is not installed; run `pip install -e '.[{missing}]'` in manyfit's folder"
    )
