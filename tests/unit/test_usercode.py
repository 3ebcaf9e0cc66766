"""Users' own functions: found without running them, imported with their modules winning, fingerprinted.

What imports runs in a process of its own, as it does in a worker.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import ROOT

from search.errors import UsageError
from search.spec.usercode import Reference


def write(folder: Path, **files: str) -> Path:
    """Write Python files, named by their paths without `.py`."""
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


def python(folder: Path, code: str) -> str:
    """Run code in a new process that has imported what a worker has; return what it prints."""
    head = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
import search.data, search.spec.settings, search.reading.studyfile, spaces, models
from search.errors import UsageError
from search.spec.usercode import Reference
base = pathlib.Path({str(folder)!r})
def load(text): return Reference.parse(text, base).load()
"""
    done = subprocess.run([sys.executable, "-P", "-c", head + textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(folder: Path, text: str) -> str:
    def check() -> None:
        reference = Reference.parse(text, folder)
        assert reference is not None
        reference.check()

    with pytest.raises(UsageError) as caught:
        check()
    return str(caught.value)


# -- finding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["mlp", "my_model.py", "sklearn:digits", "model.txt:build", ""])
def test_what_names_no_function_is_no_reference(text, tmp_path):
    assert Reference.parse(text, tmp_path) is None


def test_path_is_relative_to_the_study_file_and_may_go_up(tmp_path):
    found = Reference.parse("../shared/my_model.py:build", tmp_path / "studies")
    assert found == Reference(tmp_path / "shared" / "my_model.py", "build")
    assert Reference.parse(f"{tmp_path}/m.py:build", Path("/")).path == tmp_path / "m.py"


@pytest.mark.parametrize(
    "source",
    [
        "def build(config, data): ...",
        "async def build(config, data): ...",
        "class build: ...",
        "build = print",
        "build: object = print",
        "first, (build, *rest) = 1, (2, 3)",
        "from elsewhere import build",
        "from elsewhere import other as build",
        "import build.inner",
        "from elsewhere import *",
        "if True:\n    def build(): ...",
        "try:\n    import fast\nexcept ImportError:\n    def build(): ...",
        "with open('x') as f:\n    build = f",
        "for build in []: ...",
        "while (build := input()): ...",
        "match 1:\n    case 1:\n        build = 2",
        "x = 1 is 1\nr = '\\d'\ndef build(): ...",
    ],
)
def test_function_is_found_however_it_is_bound(tmp_path, source, recwarn):
    write(tmp_path, mine=source)
    Reference.parse("mine.py:build", tmp_path).check()
    assert not recwarn.list


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def outer():\n    def build(): ...",
        "class Outer:\n    def build(self): ...",
        "x = lambda build: 1",
        "print('build')",
        "del build",
    ],
)
def test_function_that_is_not_at_the_top_level_is_not_there(tmp_path, source):
    write(tmp_path, mine=source)
    assert "mine.py has no 'build' at its top level" in refused(tmp_path, "mine.py:build")


def test_misspelt_function_is_answered_with_the_likely_one(tmp_path):
    write(tmp_path, mine="import os\ndef build(): ...")
    assert refused(tmp_path, "mine.py:biuld").endswith("did you mean 'build'?; it has build, os")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"def build(:\n", "mine.py, line 1: not valid Python"),
        (b"\n\nbuild = 'x\n", "mine.py, line 3: not valid Python"),
        (b"build = 1\0", "not valid Python"),
        (b"build = '\xff'", "not valid Python"),
        (b"build = " + b"(" * 5000, "not valid Python"),
        (b"build = " + b"-" * 50_000 + b"1", "not valid Python"),
    ],
    ids=["colon", "quote", "nul", "latin-1", "parentheses", "minuses"],
)
def test_file_that_is_not_python_is_refused(tmp_path, raw, words):
    (tmp_path / "mine.py").write_bytes(raw)
    message = refused(tmp_path, "mine.py:build")
    assert words in message
    assert message.endswith("mend the file")
    assert len(message.splitlines()) == 1


def test_missing_file_folder_and_impossible_path_are_refused(tmp_path):
    (tmp_path / "folder.py").mkdir()
    assert "is not there" in refused(tmp_path, "nowhere.py:build")
    assert "can't be read" in refused(tmp_path, "folder.py:build")
    assert "can't be a file's path" in refused(tmp_path, "a\0b.py:build")
    (tmp_path / "circle.py").symlink_to(tmp_path / "circle.py")
    assert "circle.py" in refused(tmp_path, "circle.py:build")


def test_looking_runs_nothing(tmp_path):
    write(tmp_path, mine="open('MARK', 'w')\nraise SystemExit\ndef build(): ...")
    Reference.parse("mine.py:build", tmp_path).check()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


# -- importing ---------------------------------------------------------------------------------------------------------


def test_folder_with_its_own_models_search_and_spaces_wins(tmp_path):
    write(
        tmp_path,
        **{"models/__init__": "KIND = 'my models'", "models/blocks": "BLOCK = 'my block'"},
        spaces="KIND = 'my spaces'",
        search="KIND = 'my search'",
        mine="""
            import search, spaces, models
            from models.blocks import BLOCK
            def build(): return [search.KIND, spaces.KIND, models.KIND, BLOCK]
        """,
    )
    assert python(tmp_path, "print(load('mine.py:build')())") == "['my search', 'my spaces', 'my models', 'my block']"


def test_builder_may_be_called_like_one_of_our_packages(tmp_path):
    write(tmp_path, search="def build(): return __file__", models="import search\ndef build(): return search.build()")
    assert (
        python(tmp_path, "print(load('search.py:build')(), load('models.py:build')())").split()
        == [f"{tmp_path}/search.py"] * 2
    )


def test_folder_without_such_modules_still_gets_ours(tmp_path):
    write(
        tmp_path, mine="from spaces import Space\nimport models\ndef build(): return Space.__module__, models.__file__"
    )
    assert python(tmp_path, "print(*load('mine.py:build')())") == f"spaces.space {ROOT}/models/__init__.py"


def test_our_modules_that_are_loaded_go_on_working(tmp_path):
    write(tmp_path, search="raise RuntimeError", mine="def build(): ...")
    assert python(tmp_path, "load('mine.py:build')\nprint(search.spec.settings.StudySection().trials)") == "20"


def test_sibling_is_imported_once_and_is_the_same_as_the_named_file(tmp_path):
    write(
        tmp_path,
        counted="print('loaded')\nclass Layer: ...\ndef build(): return Layer",
        other="import counted\ndef loss(): return counted.Layer",
    )
    code = "a = load('counted.py:build'); b = load('other.py:loss'); c = load('counted.py:build'); print(a() is b() is c())"
    assert python(tmp_path, code) == "loaded\nTrue"


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    write(tmp_path, **{"a/mine": "def build(): return 'a'", "b/mine": "def build(): return 'b'"})
    assert python(tmp_path, "print(load('a/mine.py:build')(), load('b/mine.py:build')())") == "a b"


def test_dataclasses_and_pickles_of_the_file_find_their_module(tmp_path):
    write(
        tmp_path,
        mine="""
            from __future__ import annotations
            import dataclasses, pickle
            @dataclasses.dataclass
            class Options:
                width: int = 3
            def build(): return pickle.loads(pickle.dumps(Options()))
        """,
    )
    assert python(tmp_path, "print(load('mine.py:build')())") == "Options(width=3)"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nowhere_to_be_found\ndef build(): ...", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise SystemExit(3)\ndef build(): ...", "SystemExit: 3"),
        ("1 / 0\ndef build(): ...", "ZeroDivisionError: division by zero"),
        ("build = 5", "'build' is no function; received int"),
        ("from os import *", "'build' is no function; received NoneType"),
    ],
)
def test_file_that_can_not_be_imported_says_why_and_can_be_tried_again(tmp_path, source, words):
    write(tmp_path, mine=source)
    code = """
    for _ in range(2):
        try: load('mine.py:build')
        except UsageError as error: print(error)
    (base / 'mine.py').write_text('def build(): return "mended, and longer than it was before"')
    sys.modules.pop('mine', None)
    print(load('mine.py:build')())
    """
    first, second, mended = python(tmp_path, code).splitlines()
    assert first == second
    assert words in first
    assert f"{tmp_path}/mine.py" in first
    assert mended.startswith("mended")


# -- fingerprints ------------------------------------------------------------------------------------------------------


def source_hash(folder: Path) -> str:
    return python(folder, "load('mine.py:build'); print(Reference.parse('mine.py:build', base).source_hash())")


@pytest.fixture
def project(tmp_path):
    return write(
        tmp_path,
        mine="import blocks\nfrom parts import dense\ndef build(): ...",
        blocks="WIDTH = 3",
        **{"parts/__init__": "", "parts/dense": "WIDTH = 4", "parts/unused": "WIDTH = 5"},
        stranger="WIDTH = 6",
    )


def test_source_hash_is_the_same_in_every_process_and_place(project, tmp_path_factory):
    import shutil

    elsewhere = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.copytree(project, elsewhere)
    assert source_hash(project) == source_hash(project) == source_hash(elsewhere)


@pytest.mark.parametrize("name", ["mine", "blocks", "parts/dense", "parts/__init__"])
def test_source_hash_changes_with_the_file_and_with_what_it_imports(project, name):
    before = source_hash(project)
    path = project / f"{name}.py"
    path.write_text(path.read_text() + "# changed\n")
    assert source_hash(project) != before


def test_source_hash_does_not_change_with_what_is_not_imported(project):
    before = source_hash(project)
    for name in ("stranger", "parts/unused"):
        (project / f"{name}.py").write_text("WIDTH = 99")
    (project / "notes.txt").write_text("x")
    assert source_hash(project) == before
