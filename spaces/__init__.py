"""Search spaces: parameters, their conditions, and presets as TOML. Nothing here imports optuna or keras."""

from spaces.parameters import Choice, Condition, Float, Int, Parameter, SpaceError
from spaces.space import Space, load_preset, preset_names

__all__ = [
    "Choice",
    "Condition",
    "Float",
    "Int",
    "Parameter",
    "Space",
    "SpaceError",
    "load_preset",
    "preset_names",
]
