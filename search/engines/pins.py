"""Fixes the Keras and JAX settings that change numbers, so that they are equal in every worker on every machine.

Keras reads `~/.keras/keras.json` (or that of KERAS_HOME) and environment variables when it is imported; JAX reads
environment variables. A worker ignores all of them. The user's own files may change settings, because their source is part
of the study; settings that one trial's builder changes are restored before the next trial.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# JAX variables that change no number. All others are dropped, because a later JAX may add harmful ones.
_HARMLESS_OF_JAX = (
    "JAX_PLATFORMS",
    "JAX_COMPILATION_CACHE_",
    "JAX_PERSISTENT_CACHE_",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_RAISE_PERSISTENT_CACHE_ERRORS",
    "JAX_EXPLAIN_CACHE_MISSES",
    "JAX_LOG_",
    "JAX_LOGGING_LEVEL",
    "JAX_DEBUG_LOG_MODULES",
    "JAX_TRACEBACK_FILTERING",
    "JAX_DUMP_IR_TO",
    "JAX_PJRT_CLIENT_CREATE_OPTIONS",
)
_HARMLESS_OF_KERAS = ("KERAS_HOME", "KERAS_BACKEND")
_HARMFUL = ("NVIDIA_TF32_OVERRIDE", "TF_XLA_FLAGS")
_HARMFUL_OF_TENSORFLOW = ("TF_ENABLE_", "TF_DISABLE_", "TF_OVERRIDE_", "TF_DETERMINISTIC_", "TF_CUDNN_", "TF_USE_")
# XLA_FLAGS may also hold paths and limits that a machine needs, so only flags with these words are dropped.
_HARMFUL_OF_XLA = (
    "fast_math",
    "fast_min_max",
    "excess_precision",
    "optimization_level",
    "disable_hlo_passes",
    "deterministic",
    "denormals",
    "honor_",
    "bf16",
    "tf32",
    "precision",
    "reassociation",
    "host_platform_device_count",
)

# Keras's defaults, by the names of the getters in `keras.config`.
_KERAS = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "max_epochs": None,
    "max_steps_per_epoch": None,
}
_JAX = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_random_seed_offset",
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_disable_jit",
    "jax_softmax_custom_jvp",
)


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without the variables that change what Keras, JAX, XLA or TensorFlow compute."""
    kept = {name: value for name, value in environment.items() if not _is_harmful(name)}
    if flags := kept.pop("XLA_FLAGS", ""):
        harmless = [flag for flag in flags.split() if not any(word in flag for word in _HARMFUL_OF_XLA)]
        if harmless:
            kept["XLA_FLAGS"] = " ".join(harmless)
    return kept


def _is_harmful(name: str) -> bool:
    if name.startswith("JAX_"):
        return not name.startswith(_HARMLESS_OF_JAX)
    if name.startswith("KERAS_"):
        return name not in _HARMLESS_OF_KERAS
    return name in _HARMFUL or name.startswith(_HARMFUL_OF_TENSORFLOW)


def import_keras() -> None:
    """Import Keras without reading or writing its keras.json; downloads still go to the user's KERAS_HOME."""
    if "keras" in sys.modules:
        return
    home = os.environ.get("KERAS_HOME")
    # No file can exist at a path below a device.
    os.environ["KERAS_HOME"] = f"{os.devnull}/none"
    try:
        from keras.src.backend import config
    finally:
        del os.environ["KERAS_HOME"]
        if home is not None:
            os.environ["KERAS_HOME"] = home
    if home is None:
        # The same rule as in Keras.
        user = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")  # noqa: S108
        home = str(user / ".keras")
    config._KERAS_DIR = home


@dataclass(frozen=True)
class Pins:
    """Settings of Keras and, where it is imported, of JAX."""

    keras: Mapping[str, Any] = field(default_factory=lambda: dict(_KERAS))
    jax: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def now(cls) -> Pins:
        """Return the current settings."""
        import keras

        jax = sys.modules.get("jax")
        return cls(
            {name: getattr(keras.config, name)() for name in _KERAS},
            {name: getattr(jax.config, name) for name in _JAX if hasattr(jax.config, name)} if jax else {},
        )

    def set(self) -> None:
        """Restore these settings."""
        import keras

        for name, value in self.keras.items():
            if getattr(keras.config, name)() != value:
                getattr(keras.config, f"set_{name}")(value)
        if self.jax:
            import jax

            for name, value in self.jax.items():
                if getattr(jax.config, name) != value:
                    jax.config.update(name, value)

    def changed(self) -> list[str]:
        """Return the names of settings that now differ, without the prefix "jax_"."""
        then, now = {**self.keras, **self.jax}, Pins.now()
        return [
            name.removeprefix("jax_") for name, value in {**now.keras, **now.jax}.items() if then.get(name) != value
        ]
