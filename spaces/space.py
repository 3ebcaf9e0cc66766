"""A space: named parameters in the order in which they are drawn, parents before the parameters that depend on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spaces.parameters import Choice, Float, Int, Parameter, SpaceError
from spaces.shown import shown

_PRESETS = Path(__file__).parent / "presets"
_KEYS = {"low", "high", "log", "step", "choices", "when"}


class Space(Mapping[str, Parameter]):
    """The parameters of a study by name. Immutable."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = MappingProxyType(_parents_first(parameters))
        # Sets, because a condition may name thousands of values and is checked at every draw.
        self._conditions = {
            name: {parent: frozenset(values) for parent, values in parameter.when.items()}
            for name, parameter in self._parameters.items()
        }

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Space:
        """Make a space from a parsed `[space]` table; SpaceError, whose `key` is a dotted path, if a part is wrong."""
        parameters: dict[str, Parameter] = {}
        for name, entry in table.items():
            if not name.isidentifier():
                raise SpaceError(f"a parameter's name is of letters, digits and _; received {name!r}", name)
            try:
                parameters[name] = _parse_parameter(entry)
            except SpaceError as error:
                # A parameter that is a bare list has no key `choices` in the file.
                key = name if isinstance(entry, list) else f"{name}.{error.key}".rstrip(".")
                raise SpaceError(str(error), key) from None
        return cls(parameters)

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def is_active(self, name: str, params: Mapping[str, Any]) -> bool:
        """Return whether `name` is active: whether `params`, drawn before it, fulfil its conditions."""
        return all(parent in params and params[parent] in values for parent, values in self._conditions[name].items())

    def condition(self, name: str) -> Mapping[str, frozenset[Any]]:
        """Return the values of other parameters under which `name` is drawn."""
        return self._conditions[name]

    def config(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of drawn `params` for a builder: JSON becomes lists and tables again."""
        config = {}
        for name, param in params.items():
            parameter = self._parameters[name]
            config[name] = parameter.value_of(param) if isinstance(parameter, Choice) else param
        return config

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params of a (possibly partial) config; SpaceError naming the first value that does not fit."""
        params: dict[str, Any] = {}
        for name, value in values.items():
            if name not in self._parameters:
                raise SpaceError(f"no such parameter; the space has {', '.join(self._parameters)}", name)
            try:
                params[name] = self._parameters[name].check(value)
            except SpaceError as error:
                raise SpaceError(str(error), name) from None
        return params

    def middle(self) -> dict[str, Any]:
        """Return the params of the config in the middle of the space, for trying out a study."""
        params: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if self.is_active(name, params):
                params[name] = parameter.middle()
        return params

    def describe(self) -> dict[str, Any]:
        """Return the space as plain JSON, in the form of a study file; equal spaces have equal descriptions."""
        return {name: _describe_parameter(parameter) for name, parameter in self._parameters.items()}


def preset_names() -> list[str]:
    """Return the names of the presets that `use` takes."""
    return sorted(path.stem for path in _PRESETS.glob("*.toml"))


def load_preset(name: str) -> dict[str, Any]:
    """Return the `[space]` table of the preset `name`; SpaceError for an unknown one."""
    if name not in preset_names():
        raise SpaceError(f"no such preset: {name!r}; there are {', '.join(preset_names())}", "use")
    import tomllib

    return tomllib.loads((_PRESETS / f"{name}.toml").read_text(encoding="utf-8"))


def _parse_parameter(entry: Any) -> Parameter:
    if isinstance(entry, list):
        return Choice(tuple(entry))
    if not isinstance(entry, dict):
        raise SpaceError(
            f"a parameter is a list of choices or a table with low and high; received {shown(entry)}; "
            "a fixed value belongs in [train] or [model]"
        )
    unknown = set(entry) - _KEYS
    if unknown:
        raise SpaceError(f"unknown key; a parameter has {', '.join(sorted(_KEYS))}; remove it", str(min(unknown)))
    when = _parse_when(entry.get("when", {}))
    if "choices" in entry:
        if set(entry) - {"choices", "when"}:
            others = ", ".join(sorted(set(entry) - {"choices", "when"}))
            raise SpaceError(f"choices go without low, high, log and step; received {others} too; drop them", "choices")
        if not isinstance(entry["choices"], list):
            raise SpaceError(f"choices must be a list; received {shown(entry['choices'])}", "choices")
        return Choice(tuple(entry["choices"]), when=when)
    return _parse_range(entry, when)


def _parse_range(entry: Mapping[str, Any], when: Mapping[str, tuple[Any, ...]]) -> Float | Int:
    for key in ("low", "high"):
        if key not in entry:
            raise SpaceError(f"{key} is missing; a range needs low and high", key)
    for key in ("low", "high", "step"):
        value = entry.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SpaceError(f"{key} must be a number; received {shown(value)}", key)
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise SpaceError(f"log is true or false; received {shown(log)}", "log")
    low, high, step = entry["low"], entry["high"], entry.get("step")
    if isinstance(low, int) and isinstance(high, int):
        if isinstance(step, float):
            raise SpaceError(
                f"whole bounds need a whole step; received {step}; write low = {low}.0 for real numbers", "step"
            )
        return Int(low, high, log=log, step=1 if step is None else step, when=when)
    try:
        low, high, step = float(low), float(high), None if step is None else float(step)
    except OverflowError:
        raise SpaceError(f"bounds must be finite; received {str(low)[:40]}..{str(high)[:40]}", "low") from None
    return Float(low, high, log=log, step=step, when=when)


def _parse_when(when: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, dict):
        raise SpaceError(f'when is a table such as {{ optimizer = "sgd" }}; received {shown(when)}', "when")
    conditions = {}
    for parent, values in when.items():
        conditions[parent] = tuple(map(Choice.param_of, values if isinstance(values, list) else [values]))
        if not conditions[parent]:
            raise SpaceError("a condition needs at least one value; received an empty list", f"when.{parent}")
    return conditions


def _parents_first(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Order parameters so that each comes after its parents; otherwise keep the order of the file."""
    for name, parameter in parameters.items():
        for parent, values in parameter.when.items():
            if parent not in parameters:
                raise SpaceError(
                    f"{parent!r} is not a parameter of the space; it has {', '.join(parameters)}", f"{name}.when"
                )
            for value in values:
                _check_condition(f"{name}.when.{parent}", parameters[parent], value)
    ordered: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [name for name, p in waiting.items() if all(parent in ordered for parent in p.when)]
        if not ready:
            raise SpaceError(f"conditions go in a circle: {', '.join(waiting)}", f"{next(iter(waiting))}.when")
        # Take only the first ready one: a space without conditions then keeps the file's order.
        ordered[ready[0]] = waiting.pop(ready[0])
    return ordered


def _check_condition(key: str, parent: Parameter, value: Any) -> None:
    if isinstance(parent, Float):
        # Drawn reals differ from written ones in their last digits, so the condition would never hold.
        raise SpaceError(
            "a condition needs a parent with single values; received a real range; write it as a list of choices", key
        )
    try:
        parent.check(value)
    except SpaceError as error:
        raise SpaceError(str(error), key) from None


def _describe_parameter(parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Choice):
        entry: dict[str, Any] = {"choices": list(parameter.choices)}
    else:
        entry = {"low": parameter.low, "high": parameter.high}
        if parameter.log:
            entry["log"] = True
        if parameter.step != (1 if isinstance(parameter, Int) else None):
            entry["step"] = parameter.step
    if parameter.when:
        entry["when"] = {parent: list(values) for parent, values in parameter.when.items()}
    return entry
