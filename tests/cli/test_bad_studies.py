"""Bad study files: each is refused in one line that names file, line, key, what was received and what to do.

The files are in `tests/bad_studies/`. The first line of each says what the message must contain, split at ` | `; a second
line `# set: ...` is given as `--set`. Those that no text editor makes are made here.
"""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from typer.testing import CliRunner

from search import cli

BAD = ROOT / "tests" / "bad_studies"
NAMES = sorted(path.stem for path in BAD.glob("*.toml"))
GOOD = '[data]\nsource = "sklearn:digits"\n\n[space]\ndropout = { low = 0.0, high = 0.5 }\n'

# One of each kind is run by a real process.
KINDS = (
    "yaml_in_disguise",
    "unknown_key",
    "trials_ten",
    "source_file_missing",
    "builder_without_the_function",
    "builder_with_a_syntax_error",
    "momentum_for_adam",
    "low_above_high",
    "sampler_unknown",
    "storage_with_a_password",
    "set_wrong_type",
)

REPORT_MODULES = """
import sys
from search.cli import main
try:
    main()
finally:
    print([m for m in ("keras", "tensorflow", "jax", "torch", "leaves_a_mark") if m in sys.modules])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the bad studies, beside which something could be left behind."""
    copy = tmp_path_factory.mktemp("bad") / "studies"
    shutil.copytree(BAD, copy, ignore=shutil.ignore_patterns("__pycache__"))
    # Not among the files: formatters and linters would stumble over it.
    (copy / "syntax_error.py").write_text("# Not Python.\n\n\ndef build(config, data:\n    return None\n")
    return copy


def expectations(path: Path) -> tuple[list[str], list[str]]:
    """Return what the message must contain, and the arguments to give."""
    first, *others = path.read_text(encoding="utf-8").splitlines()
    arguments = []
    for line in others:
        if line.startswith("# set: "):
            arguments += ["--set", line.removeprefix("# set: ")]
    return first.removeprefix("# expect: ").split(" | "), arguments


def everything_in(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def check_message(code: int, out: str, err: str, *parts: str) -> None:
    assert code == 2, err
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("manyfit: ")
    assert line.isprintable()
    assert len(line) < 1000
    for part in parts:
        assert part in line, line
    for jargon in ("Traceback", "should have", "pydantic", "Input should", "ctx", "hunter2"):
        assert jargon not in line


def refused(path: Path, *parts: str, arguments: tuple[str, ...] = (), folder: Path | None = None) -> None:
    """Run the command in this process and hold its one line against `parts`; nothing may be left behind."""
    folder = folder or path.parent
    before = everything_in(folder)
    result = CliRunner().invoke(cli.app, ["run", *arguments, "--", str(path)])
    check_message(result.exit_code, result.stdout, result.stderr, *parts)
    assert everything_in(folder) == before


def test_there_are_enough_of_them():
    assert len(NAMES) >= 45


@pytest.mark.parametrize("name", NAMES)
def test_bad_study_is_refused_in_one_plain_line(folder, name):
    path = folder / f"{name}.toml"
    parts, arguments = expectations(path)
    refused(path, path.name, *parts, arguments=tuple(arguments))


@pytest.mark.parametrize("name", KINDS)
def test_bad_study_is_refused_by_the_real_command_before_keras_is_imported(folder, name):
    path = folder / f"{name}.toml"
    parts, arguments = expectations(path)
    before = everything_in(folder)
    done = subprocess.run(
        [sys.executable, "-c", REPORT_MODULES, "run", str(path), *arguments], capture_output=True, text=True, cwd=folder
    )
    assert done.stdout == "[]\n"
    check_message(done.returncode, "", done.stderr, path.name, *parts)
    assert everything_in(folder) == before


@pytest.mark.parametrize("command", ["plan", "show", "export", "dashboard", "list"])
def test_every_command_that_takes_a_study_file_refuses_a_bad_one(folder, command):
    path = folder / "low_above_high.toml"
    result = CliRunner().invoke(cli.app, [command, str(path)])
    check_message(result.exit_code, result.stdout, result.stderr, path.name, *expectations(path)[0])


@pytest.mark.parametrize("flag", [("--trials", "0"), ("--sampler", "tpee"), ("--time", "soon"), ("--seed=-1",)])
def test_flag_is_refused_like_the_key_that_it_stands_for(tmp_path, flag):
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    key = flag[0].partition("=")[0].removeprefix("--")
    refused(path, "good.toml, --set ", f".{key}: ", arguments=flag)


@pytest.mark.parametrize("name", ["../x", "a/b", "x" * 513, "-rf", "\U0001f600", "a{b}", "%s", "a\nb"])
def test_name_of_the_command_line_is_refused_like_that_of_a_file(tmp_path, name):
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    refused(path, "study.name: must start with a letter or digit", arguments=(f"--name={name}",))


@pytest.mark.parametrize(
    "override",
    [
        "study.trials=1\n[run]\nlanes=3",
        "study.trials=1\n[run]",
        "study.trials=[1]\nother.key = 2",
        "run.lanes='auto'\n[[value2]]\nx = 1",
    ],
)
def test_override_of_several_statements_is_refused(tmp_path, override):
    """The sample: all but the first was dropped in silence."""
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    key, _, value = override.partition("=")
    refused(path, f"--set {key}: takes one value; received", repr(value)[1:-1], arguments=("--set", override))


@pytest.mark.parametrize("stem", ["-rf", "", "\U0001f600", "a{b}", "%s", "x" * 240, "a\nb", "\x1b[31m"])
def test_file_whose_name_can_not_name_a_study_is_told_to_have_one(tmp_path, stem):
    path = tmp_path / f"{stem}.toml"
    path.write_text(GOOD)
    refused(path, "can't name a study", "add name under [study]")


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), ["byte-order mark", "plain UTF-8"]),
        (GOOD.encode("utf-16"), ["is UTF-16 text", "byte-order mark", "as UTF-8"]),
        (b"\xfe\xff" + GOOD.encode("utf-16-be"), ["is UTF-16 text", "as UTF-8"]),
        (GOOD.encode("utf-16-le"), ["line 1", "a NUL byte", "saved as UTF-8"]),
        (GOOD.encode("utf-32"), ["is UTF-32 text", "byte-order mark", "as UTF-8"]),
        (GOOD.encode() + b"\0", ["line 6", "a NUL byte"]),
        (GOOD.encode() + "# Größe".encode("latin-1"), ["line 6", "not UTF-8", "received the byte 0xf6"]),
        (pickle.dumps({"data": 1}), ["line 1", "not UTF-8", "received the byte 0x80"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0", ["line 1", "received the byte 0x89"]),
        (b"", ["the file is empty"]),
        (b"# nothing but remarks\n" * 9, ["the file is empty"]),
        (b"# filled\n" * 1_200_000, ["at most 1,000,000 bytes", "received 10,800,000"]),
        (b"x = " + b"[" * 10_000, ["nested too deeply"]),
        (b"x = " + b"{ x = " * 10_000, ["nested too deeply"]),
        (GOOD.encode() + b"x = " + b"[" * 400 + b"]" * 400, ["nested too deeply"]),
        (b"[x" + b".x" * 30_000 + b"]", ["nested too deeply"]),
        (GOOD.replace("\n", "\r").encode() + b"x = [1\r", ["line 6", "not valid TOML: a list is not closed"]),
        (GOOD.replace("\n", "\r").encode() + b"x = 1\ry = [1, 2]\r", ["line 6, space.x: a parameter is"]),
        (GOOD.replace("\n", "\r\n").encode() + b"x = 1\r\n", ["line 6, space.x: a parameter is"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else f"{len(value)} bytes",
)
def test_file_that_no_editor_makes_is_refused(tmp_path, raw, parts):
    path = tmp_path / "made.toml"
    path.write_bytes(raw)
    refused(path, "made.toml", *parts)


def test_error_below_ten_thousand_lines_is_told_at_once_and_with_its_line(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text(GOOD + "".join(f"p{i} = [1, 2]\n" for i in range(10_000)) + "last = []\n")
    refused(path, "line 10006, space.last: a choice needs at least one value")


def test_error_behind_a_value_of_ten_thousand_lines_still_names_its_key(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text(GOOD + "p = [\n" + "".join(f"{i},\n" for i in range(10_000)) + "]\nlast = []\n")
    refused(path, "long.toml, line 4, space.last: a choice needs at least one value")


def test_path_that_is_no_file_is_refused(tmp_path):
    refused(tmp_path / "nowhere.toml", "nowhere.toml: no such study file")
    refused(tmp_path, "this is a folder", "`manyfit list", folder=tmp_path)
    refused(tmp_path / ("x" * 5000), "File name too long", folder=tmp_path)
    refused(Path("/dev/zero"), "/dev/zero: a study file has at most 1,000,000 bytes", folder=tmp_path)


def test_windows_line_ends_are_fine_and_keep_their_lines(tmp_path):
    path = tmp_path / "crlf.toml"
    path.write_bytes((GOOD + "rate = []\n").replace("\n", "\r\n").encode())
    refused(path, "line 6, space.rate: a choice needs at least one value")
