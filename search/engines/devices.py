"""The devices of this machine and what a worker's environment must say to have one of them for itself.

CUDA_VISIBLE_DEVICES says which GPUs there are, as for every CUDA program: a cluster's job sees its own and no others.
GPUs are NVIDIA's. Those of AMD and others are not looked for: training then uses the CPU.
Nothing here imports keras, tensorflow or jax: asking them would take seconds, and memory on the GPU.
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

# The least recently used goes when compiled programs take more than this on disk.
COMPILE_CACHE_BYTES = 10**9


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU by its number among those that are visible, or the CPU.

    Attributes:
        entry: what CUDA_VISIBLE_DEVICES calls the GPU: a number, or the UUID of a GPU or of a MIG instance. "": its number.
    """

    gpu: int | None = None
    entry: str = ""

    @property
    def name(self) -> str:
        return "cpu" if self.gpu is None else f"gpu:{self.gpu}"

    def environment(self, backend: str) -> dict[str, str]:
        """Return what makes a worker see this device only, and no more of its memory than it needs."""
        found = {
            "KERAS_BACKEND": backend,
            "CUDA_VISIBLE_DEVICES": "-1" if self.gpu is None else self.entry or str(self.gpu),
            # The order of nvidia-smi; without it CUDA may count the fastest first.
            "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
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
    """Return the names of the NVIDIA GPUs that are visible, in the order of their numbers."""
    names = _installed()
    return [names[int(entry)] if entry.isdecimal() else entry for entry in visible()]


def visible() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls each GPU that this process may use, in order.

    As CUDA does, the list ends before the first entry that names no GPU: "" and "-1" leave none. Unset, all are visible.
    """
    count = len(_installed())
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None or not count:
        return [str(number) for number in range(count)]
    entries = [entry.strip() for entry in told.split(",")]
    uuids = _uuids() if any(entry.startswith(("GPU-", "MIG-")) for entry in entries) else []
    there: list[str] = []
    for entry in entries:
        is_number = entry.isdecimal() and entry.isascii() and int(entry) < count
        # A UUID may be shortened to what only one has. Where the driver does not list them it is taken as it stands.
        kin = [uuid for uuid in uuids if uuid[:4] == entry[:4]]
        is_uuid = entry.startswith(("GPU-", "MIG-")) and (not kin or sum(uuid.startswith(entry) for uuid in kin) == 1)
        if not (is_number or is_uuid) or entry in there:
            break
        there.append(str(int(entry)) if is_number else entry)
    return there


def _installed() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs, in the driver's order."""
    return [line.strip() for line in _ask("--query-gpu=name", "--format=csv,noheader").splitlines() if line.strip()]


def _uuids() -> list[str]:
    """Return the UUIDs of GPUs and MIG instances, as far as the driver lists them."""
    return re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", _ask("-L"))


def memory_of(entry: str) -> int:
    """Return the bytes of an NVIDIA GPU's memory, named as CUDA_VISIBLE_DEVICES does; 0 if its driver does not tell."""
    told = _ask(f"--id={entry}", "--query-gpu=memory.total", "--format=csv,noheader,nounits").strip()
    return int(told) * 2**20 if told.isdecimal() else 0


def _ask(*arguments: str) -> str:
    """Return what nvidia-smi prints; "" where there is none, or it fails."""
    if shutil.which("nvidia-smi") is None:
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout
    return ""


def choose(wanted: Literal["auto"] | int | tuple[str | int, ...]) -> list[Device]:
    """Return the devices that `run.devices` stands for; UsageError for a GPU that is not there.

    "auto": every GPU that is visible, or else the CPU once. A number: so many GPUs, or without GPUs so many workers that
    share the cores. A list: GPUs by their numbers among those that are visible.
    """
    there = [Device(n, "" if entry == str(n) else entry) for n, entry in enumerate(visible())]
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    limit = "" if told is None else f" (CUDA_VISIBLE_DEVICES is {told!r})"
    if wanted == "auto":
        return there or [Device()]
    if isinstance(wanted, int):
        if there and wanted > len(there):
            raise UsageError(f"run.devices: {wanted} devices are wanted and {len(there)} GPUs are there{limit}")
        return there[:wanted] if there else [Device()] * wanted
    for device in wanted:
        if device != "cpu" and int(device) >= len(there):
            raise UsageError(f"run.devices: there is no GPU {device}; this machine has {len(there)}{limit}")
    return [Device() if device == "cpu" else there[int(device)] for device in wanted]


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
    raise UsageError(
        f"run.backend: {missing} is not installed; run `pip install -e '.[{missing}]'` in manyfit's folder"
    )
