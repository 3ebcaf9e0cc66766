"""Prints the oldest versions of packages that pyproject.toml allows, as pip takes them: `python tests/oldest.py keras jax`."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
wanted = [*project["dependencies"], *(entry for extra in project["optional-dependencies"].values() for entry in extra)]
oldest = dict(match.groups() for entry in wanted if (match := re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", entry)))
for name in sys.argv[1:]:
    print(f"{name}=={oldest[name]}")
    if name == "jax":
        print(f"jaxlib=={oldest[name]}")
