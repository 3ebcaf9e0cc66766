"""The packages of `search` import each other as docs/decisions/0018 says, and no other."""

from __future__ import annotations

import ast
from collections import defaultdict

from support import ROOT

EVERYONES = {"errors", "log", "durable", "points", "registry"}
MAY_IMPORT = {
    "cli": {"core", "engines", "reading", "spec", "storage", "trials", "views", "workers"},
    "views": {"cli", "core", "engines", "policies", "reading", "spec", "storage", "trials", "workers"},
    "workers": {"data", "engines", "spec", "storage", "trials"},
    "engines": {"data", "spec", "trials"},
    "core": {"policies", "spec", "trials"},
    "reading": {"data", "policies", "spec", "storage"},
    "storage": {"engines", "policies", "spec", "trials"},
    "policies": {"spec", "trials"},
    "data": {"spec"},
    "trials": {"spec"},
    "spec": set(),
}


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


def test_packages_import_only_what_is_written_down():
    found = defaultdict(set)
    for path in (ROOT / "search").rglob("*.py"):
        package = path.relative_to(ROOT / "search").parts[0].removesuffix(".py")
        found[package] |= imported(ast.parse(path.read_text(encoding="utf-8"))) - {package} - EVERYONES
    assert not {name: found[name] for name in EVERYONES if found[name]}
    for package in EVERYONES | {"__init__"}:
        found.pop(package, None)
    assert {package: sorted(names) for package, names in found.items()} == {
        package: sorted(names) for package, names in MAY_IMPORT.items()
    }
