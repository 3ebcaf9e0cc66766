"""Every write that lasts (fsync, rename, commit, change of journal) has a point at which a test can kill the process: F3."""

from __future__ import annotations

import ast

import pytest
from support import ROOT

# Where writes that last stand, by file and function. One that comes here calls `failpoint` around it, and the tests of kills meet it.
PLACES = {
    ("durable.py", "replace"),
    ("durable.py", "move"),
    ("durable.py", "_sync_folder"),
    ("storage/connecting.py", "connect"),
    ("storage/schema.py", "create"),
    ("storage/store.py", "close"),
    ("storage/writing.py", "__exit__"),
    ("storage/backup.py", "make"),
    ("storage/backup.py", "_leave_out"),
    ("storage/deleting.py", "_delete"),
    ("storage/deleting.py", "_delete_all"),
    ("storage/copying.py", "_leave_wal"),
    ("storage/presence.py", "_rescue"),
    ("log.py", "_roll"),
}
BETWEEN_POINTS = {("durable.py", "_sync_folder")}  # of `move`, which calls it
# A connection may commit without a word of it: `with connection:`. These don't, or can't write.
CONNECTIONS = {
    ("storage/connecting.py", "_open"),
    ("storage/schema.py", "create"),
    ("storage/schema.py", "optunas"),
    ("storage/backup.py", "make"),
    ("storage/backup.py", "restore"),
    ("storage/presence.py", "_rescue"),
    ("views/dashboard.py", "_connect"),
}

MODULES = {
    "os": {"fsync", "fdatasync", "sync", "replace", "rename", "renames", "link"},
    "shutil": {"move"},
    "sqlite3": {"connect"},
}
WORDS = ("COMMIT", "END TRANSACTION", "journal_mode =", "wal_checkpoint", "VACUUM")


def writes(source: str) -> set[tuple[str, str, bool]]:
    """Return (function, what it writes by, whether it calls `failpoint`) of all that a source writes by."""
    found = set()

    def look(node: ast.AST, function: ast.AST | None) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if what := kind(node):
            called = {ast.unparse(n.func) for n in ast.walk(function or node) if isinstance(n, ast.Call)}
            found.add((getattr(function, "name", ""), what, "failpoint" in called))
        for inner in ast.iter_child_nodes(node):
            look(inner, function)

    look(ast.parse(source), None)
    return found


def kind(node: ast.AST) -> str:
    """Return what a node writes by; "" if it does not."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return next((word for word in WORDS if word in node.value), "")
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names} & MODULES.get(node.module or "", set())
        return f"{node.module}.{min(names)}" if names else ""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return ""
    owner, name = ast.unparse(node.func.value), node.func.attr
    if name in MODULES.get(owner, set()):
        return f"{owner}.{name}"
    # A path's takes one argument, a text's two, a moment's has names. A store's commit takes a study.
    is_path = name in ("rename", "replace", "hardlink_to") and len(node.args) == 1 and not node.keywords
    is_commit = name == "commit" and not node.args and not node.keywords
    return f".{name}" if is_path or is_commit else ""


def test_what_lasts_is_written_where_a_kill_is_tried():
    places, connections, unhooked = set(), set(), set()
    for path in sorted((ROOT / "search").rglob("*.py")):
        for function, what, is_hooked in writes(path.read_text(encoding="utf-8")):
            place = (str(path.relative_to(ROOT / "search")), function)
            if what == "sqlite3.connect":
                connections.add(place)
                continue
            places.add(place)
            if not is_hooked:
                unhooked.add(place)
    assert places == PLACES
    assert connections == CONNECTIONS
    assert unhooked == BETWEEN_POINTS


@pytest.mark.parametrize(
    "line",
    [
        "os.fsync(file.fileno())",
        "os.replace(partial, path)",
        "os.rename(partial, path)",
        "shutil.move(partial, path)",
        "from os import fsync",
        "partial.replace(path)",
        "partial.rename(path)",
        "self.partial(1).replace(path)",
        "connection.execute('COMMIT')",
        "connection.executescript(f'BEGIN; {tables} COMMIT;')",
        "connection.execute('PRAGMA journal_mode = DELETE')",
        "connection.commit()",
        "sqlite3.connect(path)",
    ],
)
def test_such_a_write_would_be_seen(line):
    assert {is_hooked for _, _, is_hooked in writes(f"def write(): {line}")} == {False}
    assert {is_hooked for _, _, is_hooked in writes(f"def write(): failpoint('it'); {line}")} == {True}


def test_what_only_looks_like_one_is_none():
    lines = ["text.replace('_', ' ')", "moment.replace(tzinfo=UTC)", "replace(resolved, lanes={})"]
    lines += ["durable.replace(partial, path)", "loop.store(study, store)"]
    assert writes("\n".join(lines)) == set()
