"""Each worker sees its own device and no more of it than it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from search.engines import devices
from search.engines.devices import Device
from search.errors import UsageError


def test_gpu_worker_sees_its_gpu_only_and_leaves_memory_to_others():
    found = Device(2).environment("jax")
    assert found["CUDA_VISIBLE_DEVICES"] == "2"
    assert found["KERAS_BACKEND"] == "jax"
    assert found["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert found["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert "JAX_PLATFORMS" not in found


def test_cpu_worker_sees_no_gpu():
    found = Device().environment("tensorflow")
    assert (found["CUDA_VISIBLE_DEVICES"], found["JAX_PLATFORMS"]) == ("-1", "cpu")


@pytest.mark.skipif(bool(devices.gpus()), reason="this machine has a GPU")
def test_without_gpus_the_cpu_works_as_often_as_asked():
    assert devices.choose("auto") == [Device()]
    assert devices.choose(3) == [Device()] * 3
    assert devices.choose(("cpu", "cpu")) == [Device()] * 2
    with pytest.raises(UsageError, match="there is no GPU 0; this machine has 0"):
        devices.choose((0,))


def test_backend_that_is_not_installed_is_refused_with_what_to_install(monkeypatch):
    assert devices.choose_backend("auto") == devices.installed_backends()[0]
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"run `pip install -e '\.\[jax\]'` in manyfit's folder"):
        devices.choose_backend("jax")


@pytest.mark.slow
def test_programs_are_kept_beside_those_that_plain_jax_has_stored(tmp_path, monkeypatch):
    # Plain JAX stores no time of the last use, and JAX with a limit can't do without.
    (tmp_path / "jit_other-0123-cache").write_bytes(b"a program")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    code = "import jax; print(jax.jit(lambda x: x + 1)(2.0))"
    environment = {**os.environ, **Device().environment("jax")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, "compilation cache" in done.stderr) == ("3.0\n", False)
    assert len(list(tmp_path.glob("*-cache"))) > 1


def test_only_the_folder_of_manyfit_has_a_limit(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_MAX_SIZE", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert Device().environment("jax")["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(devices.COMPILE_CACHE_BYTES)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in Device().environment("jax")
