"""Names and texts that mean something elsewhere: markup, escape codes, bytes that are no UTF-8, our packages' names."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from rich.text import Text
from support import MANYFIT, REPLAY, ROOT, manyfit, replay, replay_file, write_study

from search.views.plain import PlainConsole
from search.views.printable import printable

MARKUP = ["[/]", "[bold]", "[red]x[/red]", "[link=http://a]b[/link]", ":smile:", "[/nothing]", "\\[x]"]


@pytest.fixture(scope="module")
def strange(tmp_path_factory) -> Path:
    """The database of a study whose choices, objective, folder and events are full of markup."""
    folder = tmp_path_factory.mktemp("x") / "[bold]folder [/]"
    folder.mkdir(parents=True)
    text = REPLAY.replace("[search]", f"odd = {json.dumps(MARKUP)}\n[search]").replace('"val_loss"', '"val_[/]loss"')
    text = text.replace("trials = 20", "trials = 12\ndirection = 'minimize'")
    return replay(
        replay_file(folder, text),
        lambda a, e: {"loss": 1 / e, "val_[/]loss": a.number / e if hasattr(a, "number") else 1 / e},
    ).path


def out(*arguments: object, **options: object) -> str:
    done = manyfit(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_markup_is_printed_as_it_is(strange):
    shown = out("show", strange)
    assert "val_[/]loss" in shown
    assert any(text in shown for text in MARKUP)
    assert "[bold]folder [/]" in out("list", strange.parent)
    for trial in range(5):
        value = json.loads(out("show", strange, "--trial", trial, "--json"))["config"]["odd"]
        if trial < 3:
            assert value in out("show", strange, "--trial", trial)


@pytest.mark.parametrize(
    "text", [*MARKUP, "a\x1b[31mb", "\x9b2J", "a\rb", "\u202egpj.exe", "\udcff", "\x00", "tab\there"]
)
def test_console_prints_text_and_obeys_none(text, capsys):
    console = PlainConsole(width=200, force_terminal=True)
    console.print(text)
    console.print(Text(text, style="bold"))
    shown = capsys.readouterr().out
    plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "\x1b" not in plain
    assert plain.encode()  # no halves of characters
    if text in MARKUP:
        assert plain == f"{text}\n{text}\n"


def test_what_is_printable_stays():
    for text in ("val_loss", "naïve café", "日本語", "a\nb\tc", "می‌خواهم", "👩‍👩‍👧"):
        assert printable(text) == text
    assert printable("\x1b[2J\x07\u2028") == "\\x1b[2J\\x07\\u2028"


HOSTILE = "\x1b]0;owned\x07\x1b[2Jgone"


@pytest.mark.gallery
def test_escape_codes_of_a_hostile_database_do_not_reach_the_terminal(tmp_path):
    """The sample: a study's name; siblings: an ending, why, a detail, an event, a choice."""
    database = replay(replay_file(tmp_path, study__trials=3)).path
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE studies SET study_name = ?", (HOSTILE,))
        connection.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE key IN ('why', 'ended')", (json.dumps(HOSTILE),)
        )
        connection.execute("UPDATE manyfit_studies SET ended = ?", (HOSTILE,))
        connection.execute(
            "INSERT INTO manyfit_events (study_id, at, kind, detail) VALUES (1, '2026-01-01 00:00:00', ?, ?)",
            (HOSTILE, json.dumps({HOSTILE: HOSTILE})),
        )
    for arguments in (
        ("list", tmp_path), ("show", database), ("show", database, "--trial", 0), ("verify", database),
        ("show", database, "--name", "none"), ("run", database), ("plan", database, "--name", "no"),
    ):  # fmt: skip
        done = manyfit(*arguments)
        assert "\x1b" not in done.stdout + done.stderr, arguments
        assert "\x07" not in done.stdout + done.stderr, arguments
        assert "should not have happened" not in done.stderr
        assert "Traceback" not in done.stderr


LOCALES = [
    {},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "latin-1"},
]


@pytest.mark.parametrize(
    "locale",
    [LOCALES[2], *(pytest.param(locale, marks=pytest.mark.gallery) for locale in (*LOCALES[:2], LOCALES[3]))],
    ids=lambda locale: " ".join(f"{k}={v}" for k, v in locale.items()) or "as it is",
)
def test_folder_whose_name_is_no_utf8_is_shown_in_every_locale(tmp_path, locale):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xffn"))
    folder.mkdir(parents=True)
    database = replay(replay_file(folder, study__trials=3)).path
    name = database.relative_to(tmp_path)
    for arguments in (
        ("list", folder),
        ("show", database),
        ("export", database, "-o", folder / "b.json"),
        ("verify", database),
    ):
        done = subprocess.run(
            [os.fsencode(str(word)) for word in (*MANYFIT, *arguments)],
            capture_output=True,
            env={**os.environ, **locale},
            timeout=200,
        )
        assert done.returncode == 0, (arguments, done.stderr)
        assert b"Traceback" not in done.stderr
    assert (folder / "b.json").exists()
    assert name


@pytest.mark.slow
@pytest.mark.gallery
def test_search_runs_in_a_folder_whose_name_is_no_utf8(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xffn [/]"))
    folder.mkdir(parents=True)
    path = write_study(folder, trials=1, epochs=1)
    for arguments in (("run", path), ("run", path.with_suffix(".db"), "--trials", "2")):
        done = subprocess.run(
            [os.fsencode(str(word)) for word in (*MANYFIT, *arguments)],
            capture_output=True,
            timeout=250,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert done.returncode == 0, (arguments, done.stderr)


def test_search_py_on_pythonpath_does_not_reach_the_command(tmp_path):
    for name in ("search", "spaces", "models"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user\\'s own')\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for cwd in (tmp_path, ROOT):
        done = subprocess.run(
            [sys.executable, "-m", "manyfit", "list"], cwd=cwd, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "the user's own" not in done.stdout + done.stderr


@pytest.mark.gallery
@pytest.mark.slow
def test_search_py_on_pythonpath_does_not_reach_the_worker_and_the_builder_gets_it(tmp_path):
    shelf = tmp_path / "shelf"
    (shelf / "models").mkdir(parents=True)
    (shelf / "models" / "__init__.py").write_text("UNITS = 3\n")
    (shelf / "search.py").write_text("MINE = True\n")
    folder = tmp_path / "study"
    folder.mkdir(parents=True)
    (folder / "my_model.py").write_text(
        "import keras, search, models\nassert search.MINE\ndef build(config, data):\n    return keras.Sequential([keras.Input(data.input_shape),"
        " keras.layers.Flatten(), keras.layers.Dense(models.UNITS), keras.layers.Dropout(config['dropout']), keras.layers.Dense(data.outputs)])\n"
    )
    text = "[study]\ntrials = 1\nepochs = 1\n[data]\nsource = 'sklearn:iris'\n[model]\nbuild = '{}'\n[space]\ndropout = [0.1, 0.2]\n[run]\nengine = 'fit'\nbackend = 'jax'\n"
    env = {**os.environ, "PYTHONPATH": f"{shelf}{os.pathsep}{ROOT}"}
    for build in ("my_model.py:build", "mlp"):
        path = write_study(folder, text.replace("{}", build), name=build[:3])
        run = [sys.executable, "-m", "manyfit", "run", str(path)]
        done = subprocess.run(run, env=env, cwd=folder, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
    # What is outside of the folder is a part of the study, too.
    (shelf / "models" / "__init__.py").write_text("UNITS = 4\n")
    run = [sys.executable, "-m", "manyfit", "run", str(folder / "my_.toml")]
    done = subprocess.run(run, env=env, cwd=folder, capture_output=True, text=True, timeout=250)
    assert done.returncode == 2
    assert "<models>" in done.stderr
