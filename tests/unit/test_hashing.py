"""What makes the functions of a notebook the same in another session: their source and all that they reach."""

from __future__ import annotations

import inspect
import itertools
import json
import linecache
import subprocess
import sys
import textwrap
from typing import Any

import cloudpickle
import numpy as np
import pytest

from search.python.hashing import Hashes, source

_numbers = itertools.count()


def run_cells(*cells: str, kept: bool = True, **globals_: Any) -> dict[str, Any]:
    """Run cells as a notebook does, whose source Python finds by the cell's name; without it if not `kept`."""
    space = {"__name__": "__main__", "np": np, **globals_}
    for cell in cells:
        text, name = textwrap.dedent(cell), f"<cell {next(_numbers)}>"
        if kept:
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), space)  # noqa: S102
    return space


def hashes(value: Any, name: str = "build") -> Hashes:
    found = Hashes()
    found.add(name, value)
    return found


def changed(one: Any, other: Any) -> set[str]:
    """Return the names whose hashes differ."""
    first, second = hashes(one).by_name, hashes(other).by_name
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


BUILD = """
def build(config, data):
    return helper(config["units"], WIDTHS, table)
"""
HELPER = """
def helper(units, widths, table):
    return [units * width for width in widths]
"""


def test_equal_cells_have_equal_hashes_wherever_they_stand():
    one = run_cells(HELPER, BUILD, WIDTHS=[1, 2], table=np.arange(6))
    other = run_cells("# another cell comes first", "\n\n" + BUILD, HELPER, WIDTHS=[1, 2], table=np.arange(6))
    assert changed(one["build"], other["build"]) == set()
    found = hashes(one["build"])
    assert set(found.by_name) == {"python:build", "python:helper", "python:WIDTHS", "python:table"}
    assert not found.warnings
    assert all(len(digest) == 32 for digest in found.by_name.values())


@pytest.mark.parametrize(
    ("cells", "values", "which"),
    [
        ((HELPER, BUILD.replace("units", "width")), {}, {"python:build"}),
        ((HELPER.replace("*", "+"), BUILD), {}, {"python:helper"}),
        ((HELPER, BUILD), {"WIDTHS": [1, 3]}, {"python:WIDTHS"}),
        ((HELPER, BUILD), {"WIDTHS": (1, 2)}, {"python:WIDTHS"}),
        ((HELPER, BUILD), {"WIDTHS": [1, 2.0]}, {"python:WIDTHS"}),
        ((HELPER, BUILD), {"WIDTHS": [True, 2]}, {"python:WIDTHS"}),
        ((HELPER, BUILD), {"table": np.arange(6).reshape(2, 3)}, {"python:table"}),
        ((HELPER, BUILD), {"table": np.arange(6, dtype="int32")}, {"python:table"}),
        ((HELPER, BUILD), {"table": np.array([0, 1, 2, 3, 4, 6])}, {"python:table"}),
        ((HELPER, BUILD), {"table": None}, {"python:table"}),
    ],
)
def test_each_change_names_what_has_changed(cells, values, which):
    before = run_cells(HELPER, BUILD, WIDTHS=[1, 2], table=np.arange(6))
    after = run_cells(*cells, **{"WIDTHS": [1, 2], "table": np.arange(6), **values})
    assert changed(before["build"], after["build"]) == which


def test_closures_defaults_and_decorators_count():
    made = """
    def factory(depth, weights, wrap=None):
        def build(config, data, scale=depth * 2):
            return depth, weights, config
        return build
    """
    space = run_cells(made)
    assert changed(space["factory"](2, np.ones(3)), space["factory"](2, np.ones(3))) == set()
    assert changed(space["factory"](2, np.ones(3)), space["factory"](2, np.zeros(3))) == {"python:build: weights"}
    assert changed(space["factory"](2, np.ones(3)), space["factory"](3, np.ones(3))) == {
        "python:build: depth",
        "python:build: defaults",
    }
    traced = """
    import functools
    def traced(function):
        @functools.wraps(function)
        def inner(*given):
            return function(*given)
        return inner
    @traced
    def build(config, data):
        return {}
    """
    one, other = (run_cells(traced.format(number))["build"] for number in (1, 2))
    assert len(changed(one, other)) == 1


def test_lambdas_are_told_apart_on_one_line_and_by_themselves():
    space = run_cells("pair = (lambda c, d: c['a'], lambda c, d: c['b']); trials = 20")
    assert [source(one.__code__) for one in space["pair"]] == ["lambda c, d: c['a']", "lambda c, d: c['b']"]
    # What else stands on the line is no part of the function.
    other = run_cells("pair = (lambda c, d: c['a'], lambda c, d: c['b']); trials = 50")
    assert changed(space["pair"][0], other["pair"][0]) == set()
    assert changed(space["pair"][0], other["pair"][1]) == {"python:build"}


def test_classes_are_compared_by_their_methods_bases_and_attributes():
    cell = """
    class Base:
        rate = {rate}
        def call(self, x):
            return x * {factor}
    class Layer(Base):
        @property
        def name(self):
            return "layer"
        @staticmethod
        def twice(x):
            return {twice} * x
    def build(config, data):
        return Layer()
    """
    before = run_cells(cell.format(rate=1, factor=2, twice=2))["build"]
    assert changed(before, run_cells(cell.format(rate=1, factor=2, twice=2))["build"]) == set()
    assert changed(before, run_cells(cell.format(rate=3, factor=2, twice=2))["build"]) == {"python:Base"}
    assert changed(before, run_cells(cell.format(rate=1, factor=3, twice=2))["build"]) == {"python:Base.call"}
    assert changed(before, run_cells(cell.format(rate=1, factor=2, twice=4))["build"]) == {"python:Layer.twice"}


def test_code_without_source_is_compared_by_its_bytecode_with_a_warning():
    one, same, other = (run_cells(f"build = lambda c, d: c['units'] + {n}", kept=False)["build"] for n in (1, 1, 2))
    found = hashes(one)
    assert changed(one, same) == set()
    assert changed(one, other) == {"python:build"}
    assert found.warnings == [
        "python:build has no source, so it is compared by its bytecode: another version of Python takes it for another function"
    ]
    assert "'units'" in found.texts[0]


def test_a_file_that_has_changed_since_it_ran_is_not_taken_for_the_source(tmp_path):
    file = tmp_path / "script.py"
    file.write_text("build = lambda config, data: 1\n", encoding="utf-8")
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), space)  # noqa: S102
    assert source(space["build"].__code__) == "lambda config, data: 1"
    file.write_text("build = lambda config, data: 22\n", encoding="utf-8")
    assert source(space["build"].__code__) is None


def test_what_can_not_be_compared_is_said_and_never_refuses():
    cell = "def build(config, data):\n    return state, config\n"
    one = run_cells(cell, state=(number for number in range(3)))["build"]
    other = run_cells(cell, state=(number for number in range(4)))["build"]
    found = hashes(one)
    assert found.by_name["python:state"] == ""
    assert found.warnings == [
        "python:state can't be compared with that of another run (a generator): if it changes, this study goes on as if it had not"
    ]
    assert changed(one, other) == set()


def test_functions_that_call_each_other_end():
    space = run_cells("def a(c, d):\n    return b(c, d)\n", "def b(c, d):\n    return a(c, d)\n")
    assert set(hashes(space["a"], "a").by_name) == {"python:a", "python:b"}


def test_objects_of_the_program_are_compared_by_their_attributes():
    cell = """
    import enum
    import functools
    from types import SimpleNamespace
    class Plan:
        def __init__(self, width):
            self.width = width
    class Kind(enum.Enum):
        DEEP = 1
        WIDE = 2
    def helper(a, b):
        return a
    plan, kind, space, part = Plan({width}), Kind.{kind}, SimpleNamespace(a={a}), functools.partial(helper, {a})
    def build(config, data):
        return plan, kind, space, part
    """
    before = run_cells(cell.format(width=2, kind="DEEP", a=1))["build"]
    assert changed(before, run_cells(cell.format(width=2, kind="DEEP", a=1))["build"]) == set()
    assert changed(before, run_cells(cell.format(width=3, kind="DEEP", a=1))["build"]) == {"python:plan"}
    assert changed(before, run_cells(cell.format(width=2, kind="WIDE", a=1))["build"]) == {"python:kind"}
    assert changed(before, run_cells(cell.format(width=2, kind="DEEP", a=2))["build"]) == {
        "python:space",
        "python:part",
    }
    assert not hashes(before).warnings


def test_classes_are_the_same_after_they_were_pickled_and_looked_at():
    cell = """
    class Plan:
        pass
    def build(config, data):
        return Plan()
    """
    build = run_cells(cell)["build"]
    before = dict(hashes(build).by_name)
    plan = build({}, None)
    cloudpickle.dumps(plan)
    assert inspect.get_annotations(type(plan)) == {}
    assert "__slotnames__" in vars(type(plan))
    assert dict(hashes(build).by_name) == before


def test_tables_of_pandas_are_compared_by_their_cells():
    import pandas as pd

    cell = "def build(config, data):\n    return table, config\n"
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    before = run_cells(cell, table=table)["build"]
    assert changed(before, run_cells(cell, table=table.copy())["build"]) == set()
    for other in (table.rename(columns={"a": "c"}), table.assign(b=["x", "z"]), table.assign(a=[1.0, 2.0])):
        assert changed(before, run_cells(cell, table=other)["build"]) == {"python:table"}


def test_hashes_are_equal_in_another_process(tmp_path):
    """Sets and dictionaries of texts have another order there."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import json
            import numpy as np
            from search.python.hashing import Hashes
            NAMES = {"a", "b", "c", "d", "e"}
            WIDE = {"x": np.arange(5.0), "y": frozenset(["p", "q", "r"])}
            class Block:
                size: int = 3
                def call(self, x):
                    return x in {"one", "two", "three"}
            def build(config, data):
                return NAMES, WIDE, Block(), config["units"] in ("a", "b")
            made = lambda config, data: build(config, data)
            hashes = Hashes()
            hashes.add("build", made)
            print(json.dumps(hashes.by_name))
            """
        ),
        encoding="utf-8",
    )
    found = []
    for seed in ("1", "2"):
        command = [sys.executable, str(script)]
        done = subprocess.run(
            command, env={"PYTHONHASHSEED": seed, "PYTHONPATH": _root()}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    assert "" not in found[0].values()
    assert {"python:build", "python:NAMES", "python:WIDE", "python:Block"} <= set(found[0])


def _root() -> str:
    from support import ROOT

    return str(ROOT)
