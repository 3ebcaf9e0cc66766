"""Fixes the Keras and JAX settings that change numbers, so that they are equal in every worker on every machine.

Keras reads `~/.keras/keras.json` (or that of KERAS_HOME) and environment variables when it is imported; JAX reads
environment variables. A worker ignores all of them. The user's own files may change settings, because their source is part
of the study; settings that one trial's builder changes, also those of Python and NumPy, are restored when the trial ends.
"""

from __future__ import annotations

import gc
import locale
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

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


def _directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 (a text to compare)
    except FileNotFoundError:
        return ""  # the folder has been deleted


def _set_directory(path: str) -> None:
    with suppress(OSError):
        os.chdir(path)


def _set_recursion_limit(limit: int) -> None:
    # A higher limit stays: no trial fails by it, and lanes may trace a deep model after other builders have run.
    sys.setrecursionlimit(max(limit, sys.getrecursionlimit()))


def _set_warning_filters(filters: list[Any]) -> None:
    # `resetwarnings` also tells Python to forget which warnings it has shown or skipped under the changed filters.
    warnings.resetwarnings()
    warnings.filters.extend(filters)  # type: ignore[attr-defined]


# Settings of the whole process, with which one trial could make another fail or change its result: their getters and
# setters. Random states are missing, because each trial is seeded. So are os.environ, sys.path and Keras's custom objects:
# a package that a builder imports may write there once and rely on it later.
_PROCESS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "recursion_limit": (sys.getrecursionlimit, _set_recursion_limit),
    "warning_filters": (lambda: list(warnings.filters), _set_warning_filters),
    "numpy_errors": (np.geterr, lambda errors: np.seterr(**errors)),
    "garbage_collection": (gc.isenabled, lambda is_on: gc.enable() if is_on else gc.disable()),
    "socket_timeout": (socket.getdefaulttimeout, socket.setdefaulttimeout),
    "locale": (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    "directory": (_directory, _set_directory),
}


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without the variables that change what Keras, JAX, XLA or TensorFlow compute."""
    kept = {name: value for name, value in environment.items() if not _is_harmful(name)}
    if "PYTHONWARNINGS" in kept:
        kept["PYTHONWARNINGS"] = ",".join(map(_printed, kept["PYTHONWARNINGS"].split(",")))
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


def _printed(warning_filter: str) -> str:
    """Return a filter of PYTHONWARNINGS that prints where it would raise, unless it is of one module only.

    Otherwise a warning in Keras or another package would fail every trial. Filters in the user's own files still apply.
    """
    fields = warning_filter.split(":")
    action = fields[0].strip()
    is_of_all = len(fields) < 4 or not fields[3].strip()
    if action and "error".startswith(action) and is_of_all:
        return ":".join(["default", *fields[1:]])
    return warning_filter


@contextmanager
def warnings_as_prints() -> Iterator[None]:
    """Print warnings even if the user has turned them into errors: for work of Keras that the user's code doesn't call."""
    with warnings.catch_warnings():
        # What the user does not see stays unseen: with all of them shown, deprecations in Keras would fill the log.
        shown = [("default" if action == "error" else action, *rest) for action, *rest in warnings.filters]
        _set_warning_filters(shown)
        yield


@contextmanager
def no_collections() -> Iterator[None]:
    """Collect no garbage while modules are imported: they make a million objects that stay, and each collection looks at all.

    Later collections leave these objects out, too.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def import_keras() -> None:
    """Import Keras without reading or writing its keras.json; downloads still go to the user's KERAS_HOME."""
    if "keras" in sys.modules:
        return
    home = os.environ.get("KERAS_HOME")
    # No file can exist at a path below a device.
    os.environ["KERAS_HOME"] = f"{os.devnull}/none"
    try:
        with no_collections():
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
    """Settings of Keras, of the process and, where it is imported, of JAX."""

    keras: Mapping[str, Any] = field(default_factory=lambda: dict(_KERAS))
    jax: Mapping[str, Any] = field(default_factory=dict)
    process: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def now(cls) -> Pins:
        """Return the current settings."""
        import keras

        jax = sys.modules.get("jax")
        return cls(
            {name: getattr(keras.config, name)() for name in _KERAS},
            {name: getattr(jax.config, name) for name in _JAX if hasattr(jax.config, name)} if jax else {},
            {name: get() for name, (get, _) in _PROCESS.items()},
        )

    def set(self) -> None:
        """Restore these settings."""
        # First: with a low recursion limit, or warnings as errors, the rest could fail.
        for name, value in self.process.items():
            get, set_ = _PROCESS[name]
            if get() != value:
                set_(value)
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
        """Return the names of settings of Keras and JAX that now differ, without the prefix "jax_"."""
        then, now = {**self.keras, **self.jax}, Pins.now()
        return [
            name.removeprefix("jax_") for name, value in {**now.keras, **now.jax}.items() if then.get(name) != value
        ]
