"""manyfit for Python programs and notebooks: `Study`, and what it has found. `import manyfit` offers it."""

from search.python.arguments import Data
from search.python.results import Best, Results, load
from search.python.study import Study

__all__ = ["Best", "Data", "Results", "Study", "load"]
