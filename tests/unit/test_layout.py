"""The packages of `search` import each other only downwards, as docs/decisions/0018 draws them, and no modules in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from support import ROOT

from search.storage import paths
from search.trials.files import StudyFiles

# From the top: each may import those that come after it.
ORDER = (
    "cli", "python", "sessions", "views", "drafting", "reading", "workers", "storage", "core", "checking", "engines", "policies", "data", "trials", "spec",
)  # fmt: skip
EVERYONES = {"errors", "log", "durable", "arrayfile", "failpoints", "registry", "signals"}


def imported(tree: ast.AST) -> set[str]:
    """Return the packages and modules of `search` that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("search.")}
        if isinstance(node, ast.ImportFrom) and node.module == "search":
            found |= {alias.name for alias in node.names if not alias.name.startswith("_")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("search."):
            found.add(node.module.split(".")[1])
    return found


def test_packages_import_only_what_is_below_them():
    upwards = []
    for path in (ROOT / "search").rglob("*.py"):
        package = path.relative_to(ROOT / "search").parts[0].removesuffix(".py")
        found = imported(ast.parse(path.read_text(encoding="utf-8"))) - {package} - EVERYONES
        below = set() if package in EVERYONES else set(ORDER[ORDER.index(package) + 1 :]) if package in ORDER else set()
        upwards += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(found - below)]
    assert upwards == []


def test_modules_import_each_other_without_a_circle():
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "search").rglob("*.py")
    }
    graph = {}
    for module, path in paths.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                # `from search.storage import rows` imports a module, `from search.errors import StoreError` a class of one.
                within = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= within & paths.keys() or {node.module}
        graph[module] = names & paths.keys()
    assert len(graph["search.storage.store"]) > 10
    TopologicalSorter(graph).prepare()  # its CycleError has the circle


def test_storage_imports_no_engine_and_no_live_study():
    imports = {
        name
        for path in (ROOT / "search" / "storage").rglob("*.py")
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert imports - EVERYONES == {"storage", "trials", "spec"}


def test_only_the_command_line_and_what_it_shows_know_a_terminal():
    users = {
        path.relative_to(ROOT / "search").parts[0]
        for path in (ROOT / "search").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name.split(".")[0] in ("rich", "typer", "click")
    }
    assert users <= {"cli", "views"}
    sessions = sorted(path.stem for path in (ROOT / "search" / "sessions").glob("[a-z]*.py"))
    program = (
        f"import sys, manyfit; from search.sessions import {', '.join(sessions)}; print(*sys.modules, sep=chr(10))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"search.sessions.run", "search.sessions.confirming"} <= set(done.stdout.split())
    assert {"rich", "typer", "click", "keras"}.isdisjoint(done.stdout.split())


def test_git_ignores_what_a_study_leaves_beside_its_file():
    database = ROOT / "studies" / "new.db"
    files = StudyFiles(database, "new")
    left = [
        *(files.folder / "trial-1.npz", files.best, files.report, files.check_page, files.log, f"{files.log}.1"),
        *(*paths.with_journals(database), paths.lock_of(database), *paths.with_journals(paths.partial_of(database))),
        *(paths.backup_of(database), f"{database}.damaged-20261129T1200Z", f"{database}.rescued-20261129T1200Z"),
    ]
    try:
        done = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs git")
    if done.returncode == 128:
        pytest.skip("this is no clone")
    assert done.stdout.splitlines() == [str(path) for path in left]


def test_no_name_in_the_code_means_several_things():
    """A value is called what it is: `found` may be anything."""
    vague = {"found", "told", "job", "room", "utils", "helpers", "manager"}
    named = []
    for folder in ("search", "spaces", "models", "manyfit"):
        for path in (ROOT / folder).rglob("*.py"):
            names = {path.stem: 1}
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    names[node.name.strip("_")] = node.lineno
                elif isinstance(node, ast.arg):
                    names[node.arg] = node.lineno
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names[node.id.strip("_")] = node.lineno
            named += [
                f"{path.relative_to(ROOT)}:{line}: {name}" for name, line in names.items() if name.lower() in vague
            ]
    assert named == []
