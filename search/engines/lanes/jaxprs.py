"""A digest of a jaxpr that shows everything in it. Programs with equal digests compute the same.

JAX's own printing hides differences: it omits inner constants, shortens arrays and only names gradient rules.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from search.engines.lanes.lifting import NotLiftable

# Custom rules for gradients: a trace without gradients does not show what they compute.
_CUSTOM_GRADIENT = frozenset({"custom_vjp_call", "custom_lin", "linear_call"})
_JAX_FOLDER = f"{Path(jax.__file__).parent}/"
# JAX's solvers take the user's functions as gradient rules.
_SOLVERS = "/control_flow/solves.py"
_ADDRESS = re.compile(r"0x[0-9a-f]+")


class JaxprDigest:
    """The digest of what a function computes from arguments of given shapes.

    Raises NotLiftable if the function calls back into Python, which a trace does not show.

    Attributes:
        value: the digest.
        has_custom_gradient: whether a function in the jaxpr has a gradient rule that isn't JAX's.
    """

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.has_custom_gradient = False
        self._known: dict[int, tuple[str, Any]] = {}
        self.value = self._of_closed(jax.make_jaxpr(function)(*arguments))

    def _of_closed(self, jaxpr: ClosedJaxpr) -> str:
        return _digest(self._of_open(jaxpr.jaxpr), *map(self._value, jaxpr.consts))

    def _of_open(self, jaxpr: Jaxpr) -> str:
        if id(jaxpr) not in self._known:
            # Keep the jaxpr alive: Python reuses the id of an object that has been freed.
            self._known[id(jaxpr)] = self._lines(jaxpr), jaxpr
        return self._known[id(jaxpr)][0]

    def _lines(self, jaxpr: Jaxpr) -> str:
        ids: dict[Any, int] = {}

        def defined(variables: Any) -> str:
            return " ".join(f"{ids.setdefault(v, len(ids))}:{v.aval.str_short()}" for v in variables)

        def used(atoms: Any) -> str:
            return " ".join(
                f"{self._value(a.val)}:{a.aval.str_short()}" if isinstance(a, Literal) else str(ids[a]) for a in atoms
            )

        lines = [defined((*jaxpr.constvars, *jaxpr.invars))]
        for equation in jaxpr.eqns:
            self._check_rules(equation)
            params = " ".join(f"{key}={self._value(value)}" for key, value in sorted(equation.params.items()))
            lines.append(f"{used(equation.invars)} {equation.primitive.name} {params} {defined(equation.outvars)}")
        return _digest(*lines, used(jaxpr.outvars))

    def _check_rules(self, equation: Any) -> None:
        name = equation.primitive.name
        if "_callback" in name:
            raise NotLiftable("a step of it calls back into Python, which can't be compared between trials")
        if name == "custom_vmap_call":
            raise NotLiftable(
                "a step of it has a rule of its own for several lanes (custom_vmap), which no trace shows"
            )
        if name == "custom_jvp_call":
            source = equation.params["call_jaxpr"].jaxpr.debug_info.func_src_info
            self.has_custom_gradient |= f" at {_JAX_FOLDER}" not in source or _SOLVERS in source
        self.has_custom_gradient |= name in _CUSTOM_GRADIENT

    def _value(self, value: Any) -> str:
        if isinstance(value, ClosedJaxpr | Jaxpr):
            return self._of_closed(value) if isinstance(value, ClosedJaxpr) else self._of_open(value)
        if isinstance(value, Mapping):
            return _digest(*(f"{key}={self._value(inner)}" for key, inner in value.items()))
        if isinstance(value, tuple | list):
            return f"({' '.join(map(self._value, value))})"
        if hasattr(value, "__array__"):
            is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(value) if is_key else value)
            return _digest(f"{array.shape}{array.dtype}", array.tobytes()) if array.shape else repr(array.item())
        # Strip memory addresses: they differ between equal functions.
        return _ADDRESS.sub("", repr(value))


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\n")
    return digest.hexdigest()
