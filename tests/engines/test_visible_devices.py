"""A search takes the GPUs that CUDA_VISIBLE_DEVICES leaves it, whatever it calls them, and no other's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, manyfit, write_study

A, B, C, D = (f"GPU-{letter * 8}-1111-2222-3333-444444444444" for letter in "abcd")
MIG = "MIG-12345678-1111-2222-3333-444444444444"

SMI = f"""#!/bin/sh
case "$1" in
  -L) printf 'GPU 0: NVIDIA H100 (UUID: {A})\\nGPU 1: NVIDIA A100 (UUID: {B})\\n  MIG 3g.20gb Device 0: (UUID: {MIG})\\n'
      printf 'GPU 2: NVIDIA T4 (UUID: {C})\\nGPU 3: NVIDIA L4 (UUID: {D})\\n' ;;
  --id={MIG}) exit 6 ;;
  --id=*) echo "$1" >> "$SMI_ASKED"; echo 81920 ;;
  *) printf 'NVIDIA H100\\nNVIDIA A100\\nNVIDIA T4\\nNVIDIA L4\\n' ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with the driver's program of a machine with four GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(SMI)
    program.chmod(0o755)
    return program.parent


def ask(machine: Path, code: str, visible: str | None) -> list[object]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
    env |= {"PATH": f"{machine}:{env['PATH']}", "PYTHONPATH": str(ROOT), "SMI_ASKED": str(machine / "asked")}
    env |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    head = "import json\nfrom search.engines import devices\nfrom search.errors import UsageError\n"
    done = subprocess.run([sys.executable, "-P", "-c", head + code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


CHOSEN = """
print(json.dumps([[d.name, d.environment("jax")["CUDA_VISIBLE_DEVICES"]] for d in devices.choose({wanted!r})]))
"""


@pytest.mark.parametrize(
    ("visible", "entries"),
    [
        (None, ["0", "1", "2", "3"]),
        ("2", ["2"]),
        ("3,1", ["3", "1"]),
        (" 1 , 2 ", ["1", "2"]),
        ("", []),
        ("-1", []),
        ("none", []),
        ("NoDevFiles", []),
        ("1,-1,2", ["1"]),
        ("0,7,1", ["0"]),
        ("1,1", ["1"]),
        ("02", ["2"]),
        (C, [C]),
        (f"{D},{A}", [D, A]),
        ("GPU-bbbb", ["GPU-bbbb"]),
        ("GPU-eeee", []),
        ("GPU-", []),
        (MIG, [MIG]),
        ("MIG-99", []),
    ],
)
def test_visible_gpus_are_taken_in_their_order_and_no_others(machine, visible, entries):
    chosen = ask(machine, CHOSEN.format(wanted="auto"), visible)
    assert chosen == ([[f"gpu:{n}", entry] for n, entry in enumerate(entries)] or [["cpu", "-1"]])


def test_devices_are_numbered_among_the_visible(machine):
    assert ask(machine, CHOSEN.format(wanted=(1, "cpu")), f"3,{A}") == [["gpu:1", A], ["cpu", "-1"]]
    assert ask(machine, CHOSEN.format(wanted=1), "3,1") == [["gpu:0", "3"]]
    assert ask(machine, CHOSEN.format(wanted=2), "") == [["cpu", "-1"]] * 2
    refused = "try: devices.choose({wanted!r})\nexcept UsageError as error: print(json.dumps([str(error)]))"
    assert ask(machine, refused.format(wanted=(1,)), "2") == [
        "run.devices: there is no GPU 1; this machine has 1 (CUDA_VISIBLE_DEVICES is '2')"
    ]
    assert "2 devices are wanted and 1 GPUs" in ask(machine, refused.format(wanted=2), "2")[0]


def test_numbers_are_those_of_nvidia_smi(machine):
    assert ask(
        machine, "print(json.dumps([devices.choose('auto')[0].environment('jax')['CUDA_DEVICE_ORDER']]))", "2"
    ) == ["PCI_BUS_ID"]


@pytest.mark.parametrize(("visible", "room"), [("2", 80 * 2**30), (C, 80 * 2**30), (MIG, 0)])
def test_memory_is_that_of_the_gpu_by_whatever_name(machine, visible, room):
    assert ask(machine, f"print(json.dumps([devices.memory_of({visible!r})]))", visible) == [room]


def test_doctor_shows_the_gpus_that_are_visible(machine):
    names = "print(json.dumps(devices.gpus()))"
    assert ask(machine, names, "3,1") == ["NVIDIA L4", "NVIDIA A100"]
    assert ask(machine, names, MIG) == [MIG]
    assert ask(machine, names, "-1") == []


@pytest.mark.gallery
@pytest.mark.slow
def test_worker_on_a_gpu_that_is_named_by_its_uuid_trains(machine, tmp_path):
    """This machine need not have the GPU: TensorFlow then falls back on the CPU."""
    path = write_study(tmp_path, trials=1, epochs=1)
    env = {"PATH": f"{machine}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": C, "SMI_ASKED": str(machine / "asked")}
    done = manyfit("run", path, "--set", "run.engine=fit", "--backend", "tensorflow", env=env)
    assert done.returncode == 0, done.stderr
    assert "gpu:0" in done.stderr
    assert set((machine / "asked").read_text().split()) == {f"--id={C}"}
