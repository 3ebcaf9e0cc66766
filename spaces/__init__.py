"""Search spaces: parameters, their conditions, and presets as TOML. Nothing here imports optuna or keras."""

from spaces.parameters import MAX_GRID_CONFIGS, Choice, Condition, Float, Int, Parameter, SpaceError, is_number
from spaces.shown import shown
from spaces.space import Space, load_preset, preset_names

__all__ = [
    "MAX_GRID_CONFIGS",
    "Choice",
    "Condition",
    "Float",
    "Int",
    "Parameter",
    "Space",
    "SpaceError",
    "is_number",
    "load_preset",
    "preset_names",
    "shown",
]
