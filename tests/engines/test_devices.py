"""Each worker sees its own device and no more of it than it needs."""

from __future__ import annotations

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
