"""The arguments of the built-in builders: name, type, bounds and choices. Nothing here imports keras.

The coordinator checks study files with these tables; `tests/engines/test_builders.py` compares them with the builders and
the installed Keras.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from spaces import shown

ACTIVATIONS = (
    "relu", "gelu", "tanh", "sigmoid", "silu", "elu", "celu", "exponential", "glu", "hard_shrink", "hard_sigmoid",
    "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu6",
    "selu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax",
    "squareplus", "swish", "tanh_shrink", "threshold",
)  # fmt: skip

# For any kernel. Left out: "initializer" (abstract), "constant" (needs a value) and "stft" (fits no layer here).
_KERNEL_INITIALIZERS = (
    "glorot_uniform", "glorot_normal", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "random_normal",
    "random_uniform", "truncated_normal", "variance_scaling", "orthogonal", "zeros", "ones", "normal",
    "uniform", "zero", "one",
    "GlorotUniform", "GlorotNormal", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform", "RandomNormal",
    "RandomUniform", "TruncatedNormal", "VarianceScaling", "Orthogonal", "OrthogonalInitializer", "Zeros",
    "Ones",
)  # fmt: skip
# An identity needs a matrix, and the kernel of a convolution is not a matrix.
_MATRIX_INITIALIZERS = ("identity", "Identity", "IdentityInitializer")

# Names from other libraries -> ours.
_ALIASES = {
    "xavier": ("glorot_uniform",),
    "xavieruniform": ("glorot_uniform",),
    "xaviernormal": ("glorot_normal",),
    "glorot": ("glorot_uniform",),
    "kaiming": ("he_normal",),
    "kaiminguniform": ("he_uniform",),
    "kaimingnormal": ("he_normal",),
    "he": ("he_normal",),
    "lecun": ("lecun_normal",),
    "gaussian": ("random_normal",),
    "none": ("linear",),
    "identity": ("linear", "identity"),
    "logistic": ("sigmoid",),
    "rectifier": ("relu",),
}


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a built-in builder.

    Attributes:
        form: description of valid values, to follow "must be".
        fits: whether a value from TOML is valid.
        choices: the names that it accepts, if it accepts names.
    """

    form: str
    fits: Callable[[Any], bool]
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError if `value` is not valid for the argument `name`."""
        if self.fits(value):
            return
        near = _nearest(value, self.choices) if self.choices else ""
        received = shown(value)
        received = received if len(received) <= 80 else f"{received[:77]}..."
        raise ValueError(f"{name} must be {self.form}; received {received}{near}")


def widths(value: Any) -> list[int]:
    """Return a list of widths; one number means one layer."""
    return [value] if isinstance(value, int) else list(value)


def _nearest(value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        return ""
    plain = {choice.lower().replace("_", ""): choice for choice in reversed(choices)}
    wanted = "".join(character for character in value.lower() if character.isalnum())
    near = difflib.get_close_matches(wanted, plain, n=1)
    suggestion = next((name for name in _ALIASES.get(wanted, ()) if name in choices), plain[near[0]] if near else "")
    return f"; did you mean {suggestion!r}?" if suggestion else ""


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_widths(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, list | tuple) and all(map(_is_whole, value)))


def _is_real(value: Any, high: float) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= high and value < math.inf


def _is_kernel(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_whole, value)))


def _named(what: str, choices: tuple[str, ...]) -> Argument:
    def fits(value: Any) -> bool:
        # Keras itself checks a serialized object: { class_name = "VarianceScaling", config = { scale = 2.0 } }.
        is_table = isinstance(value, dict) and isinstance(value.get("class_name"), str)
        return is_table or (isinstance(value, str) and value in choices)

    shown = [choice for choice in choices if choice.islower()][:6]
    return Argument(f"the name of {what} of Keras, such as {', '.join(shown)}", fits, choices)


def _sizes(what: str, example: str) -> Argument:
    return Argument(f"{what}: a list of whole numbers of at least 1, such as {example}, or one number", _is_widths)


_SHARE = Argument("a number in 0..1", lambda value: _is_real(value, 1))
_PENALTY = Argument("a number of at least 0", lambda value: _is_real(value, math.inf))
_FLAG = Argument("true or false", lambda value: isinstance(value, bool))
_ACTIVATION = _named("an activation", ACTIVATIONS)
_UNITS = _sizes("the widths of the dense layers", "[128, 64]")

BUILDERS: Mapping[str, Mapping[str, Argument]] = MappingProxyType(
    {
        "mlp": {
            "units": _UNITS,
            "activation": _ACTIVATION,
            "dropout": _SHARE,
            "initializer": _named("an initializer", (*_KERNEL_INITIALIZERS, *_MATRIX_INITIALIZERS)),
            "batch_norm": _FLAG,
            "l1": _PENALTY,
            "l2": _PENALTY,
        },
        "cnn": {
            "filters": _sizes("the filters of the blocks", "[32, 64]"),
            "kernel_size": Argument("a whole number of at least 1, or [height, width]", _is_kernel),
            "units": _UNITS,
            "activation": _ACTIVATION,
            "dropout": _SHARE,
            "initializer": _named("an initializer", _KERNEL_INITIALIZERS),
            "batch_norm": _FLAG,
        },
    }
)
"""Built-in builder -> arguments by name."""
