"""One-line errors for wrong command lines: the mistake, and the option or command that was probably meant.

typer's own errors list all options. These also know the names that other tools use, and that --set takes every study key.
"""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from search.errors import masked

# The base class of click's usage errors, taken from a subclass: typer may ship its own copy of click.
_UsageMistake: type[Exception] = typer.BadParameter.__bases__[0]

_RESUME_HINT = "run goes on by itself with a study that is there; another --name begins another one"

# Names of the commands in other tools; synonyms of study keys are in `search.spec.synonyms`.
_COMMANDS = {
    "init": "new create scaffold template quickstart setup generate begin wizard startproject bootstrap",
    "run": "train search tune optimize optimise fit start go execute launch sweep study",
    "list": "ls studies ps dir",
    "show": "best results result summary status info report display view print describe history top trials trial inspect "
    "best-trial best-trials best-params get-best status analyze",
    "export": "save dump csv json output write",
    "evaluate": "test score eval",
    "predict": "infer inference apply forecast classify",
    "verify": "validate fsck repair restore",
    "clean": "prune gc cleanup purge vacuum clear",
    "refine": "finer narrow zoom shrink focus",
    "copy": "cp clone duplicate fork branch",
    "rename": "mv move",
    "delete": "rm remove drop del erase",
    "dashboard": "ui serve web server gui board",
    "plan": "dry-run preview explain estimate simulate dryrun",
    "check": "lint sanity diagnose-data validate-data",
    "doctor": "devices env environment diagnose system gpus versions",
}
_RESUME_WORDS = (
    "resume", "continue", "restart", "go-on", "load-if-exists", "skip-if-exists", "overwrite", "reload",
    "restore", "create-study", "ask", "tell",
)  # fmt: skip
# Commands and options of other tools without a counterpart of the same kind -> what to do.
_INSTEAD = {
    "agent": "manyfit run starts its workers itself",
    "storage": "the database is named in the study file: storage under [run]",
    "multirun": "every run is a search over [space]: leave it out",
    "m": "every run is a search over [space]: leave it out",
    "dry-run": "manyfit plan STUDY prints what would run",
    "config": "the study file is the argument: manyfit run STUDY.toml",
    "config-file": "the study file is the argument: manyfit run STUDY.toml",
    "config-path": "the study file is the argument: manyfit run STUDY.toml",
    "verbose": "the study's log, NAME.log, has the details; --quiet prints errors only",
    "v": "the study's log, NAME.log, has the details; --quiet prints errors only",
}

# Names of the options in other tools.
_OPTIONS = {
    "--trials": "n-trials max-trials num-trials num-samples n-iter budget evals max-evals count",
    "--time": "timeout max-time time-budget time-limit duration deadline",
    "--name": "study-name study experiment experiment-name project-name run-name project config-name group",
    "--seed": "random-state random-seed rng",
    "--sampler": "algorithm algo method tuner strategy search-alg oracle",
    "--pruner": "scheduler pruning",
    "--backend": "framework",
    "--set": "override overrides config-override param hparam define",
    "--top": "best limit n k number max-rows head all",
    "--json": "format as-json output-format",
    "--output": "out file output-file to path",
    "--quiet": "silent no-progress no-verbose",
    "--trial": "trial-number trial-id number id",
    "--weights": "all checkpoints",
    "--restore": "repair fix recover",
    "--settings": "config params full long verbose",
    "--yes": "force no-confirm assume-yes",
    "--csv": "table format",
    "--data": "dataset input file source csv path train",
    "--target": "label labels y target-column label-column column goal",
    "--force": "overwrite replace yes f",
    "--model": "keras save-model weights",
}
_GLOBAL_OPTIONS = {"debug": "--debug", "traceback": "--debug", "version": "--version"}


class Command(TyperCommand):
    """A command that reports a wrong command line in one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command; exit with 2 for wrong ones."""
        given = list(args)
        with _in_one_line(
            lambda error: (
                _wrong_option(self, error, given)
                or _wrong_value(error, given)
                or _bare_setting(self, error, given)
                or _reworded(ctx, error)
            )
        ):
            return super().parse_args(ctx, args)


class Group(TyperGroup):
    """All commands; reports a wrong command name in one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command; exit with 2 for wrong ones."""
        given = list(args)
        with _in_one_line(lambda error: _wrong_option(self, error, given) or _reworded(ctx, error)):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; exit with 2 if there is none of that name."""
        with _in_one_line(lambda error: _wrong_command(args, sorted(self.commands)) or _reworded(ctx, error)):
            return super().resolve_command(ctx, args)  # type: ignore[return-value,unused-ignore]


@contextmanager
def _in_one_line(explain: Callable[[Any], str]) -> Iterator[None]:
    try:
        yield
    except _UsageMistake as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        fail(explain(error))


def fail(message: str) -> NoReturn:
    """Print what is wrong with a command line, and exit with 2."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in masked(message))
    print(f"manyfit: {text if len(text) < 900 else text[:900] + '...'}", file=sys.stderr)
    raise typer.Exit(2)


def _reworded(ctx: Any, error: Any) -> str:
    message = str(error.format_message() if hasattr(error, "format_message") else error).strip().rstrip(".")
    message = " ".join(message.split())
    return f"{message[:1].lower()}{message[1:]}; `{ctx.command_path} --help` lists what there is"


def _wrong_command(args: Sequence[str], known: list[str]) -> str:
    name = args[0]
    if name in known:
        return ""
    word = name.lower().replace("_", "-").strip("-")
    if name.endswith((".toml", ".db")):
        return f"{name} is no command; write: manyfit run {shlex.quote(name)}, or one of {', '.join(known)}"
    if word in _RESUME_WORDS:
        return f"no command {name!r}: {_RESUME_HINT}"
    if instead := _INSTEAD.get(word):
        return f"no command {name!r}: {instead}"
    meant = next((command for command, words in _COMMANDS.items() if command in known and word in words.split()), None)
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {meant or near[0]!r}?" if meant or near else ""
    return f"no command {name!r}{hint}; there are {', '.join(known)}"


def _wrong_option(command: Any, error: Any, args: Sequence[str]) -> str:  # noqa: PLR0911 (a kind of mistake a line)
    option = getattr(error, "option_name", "")
    if not option or any(option in parameter.opts for parameter in command.params):
        return ""
    own = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
    name = option.lstrip("-").lower().replace("_", "-")
    mistake = f"{command.name} has no option {option}" if isinstance(command, Command) else f"no option {option}"
    if name in _RESUME_WORDS and not ("--force" in own and name == "overwrite"):
        return f"{mistake}: {_RESUME_HINT}"
    if name in _GLOBAL_OPTIONS and isinstance(command, Command):
        return f"{mistake}; it stands before the command: manyfit {_GLOBAL_OPTIONS[name]} {command.name} ..."
    if meant := next((flag for flag, words in _OPTIONS.items() if flag in own and name in words.split()), None):
        return f"{mistake}; did you mean {meant}?"
    if "--set" in own and (setting := _setting(name, _value_of(option, args))):
        is_for_later = command.name == "init" and not setting.startswith("--set data.")
        return f"{mistake}: change that in the file that it writes" if is_for_later else f"{mistake}; write {setting}"
    if instead := _INSTEAD.get(name):
        return f"{mistake}: {instead}"
    if not isinstance(command, Command) and (usage := _usage_of(command, option)):
        return f"{mistake} before the command; it belongs behind one: {usage}"
    near = difflib.get_close_matches(f"--{name}", own, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{mistake}{hint}; there are {', '.join(own)}"


_REWORDED_LIMITS = (
    ("should be a valid integer", "must be a whole number"),
    ("is not a valid int", "must be a whole number"),
    ("should be greater than or equal to ", "must be at least "),
    ("should be less than or equal to ", "must be at most "),
)


def _wrong_value(error: Any, args: Sequence[str]) -> str:
    """Return what a refused number must be and what was received; "" for other mistakes."""
    options = [name for name in getattr(getattr(error, "param", None), "opts", ()) if name.startswith("-")]
    message = str(getattr(error, "message", error))
    for start, words in _REWORDED_LIMITS:
        if start in message and options:
            bound = message.partition(start)[2].split()[0].rstrip(",.") if start.endswith(" ") else ""
            value = next((value for name in options if (value := _value_of(name, args)) != "VALUE"), "")
            return f"{max(options, key=len)} {words}{bound}; received {value or 'another'}"
    return ""


def _bare_setting(command: Any, error: Any, args: Sequence[str]) -> str:
    """Return the error for KEY=VALUE without --set, as Hydra and shells have it; "" for other mistakes."""
    if "unexpected extra argument" not in str(getattr(error, "message", error)):
        return ""
    if (
        command.name == "init"
        and (words := [word for word in args if not word.startswith("-")])
        and "--data" not in args
    ):
        return f"the data stand behind --data; write manyfit init --data {shlex.quote(words[0])}"
    word = next((word for word in args[1:] if re.fullmatch(r"[A-Za-z_][\w.]*=.*", word)), "")
    if not word or not any("--set" in parameter.opts for parameter in command.params):
        return ""
    key, _, value = word.partition("=")
    setting = f"--set {shlex.quote(word)}" if "." in key else _setting(key.replace("_", "-"), value)
    return f"a setting stands behind --set; received {word!r}; write {setting}" if setting else ""


def _usage_of(group: Any, option: str) -> str:
    names = [name for name, command in group.commands.items() if any(option in p.opts for p in command.params)]
    return f"manyfit {names[0]} ... {option}" if names else ""


def _value_of(option: str, args: Sequence[str]) -> str:
    """Return the value after an unknown option on the command line, or the word VALUE."""
    for index, word in enumerate(args):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and index + 1 < len(args) and not args[index + 1].startswith("--"):
            return args[index + 1]
    return "VALUE"


def _setting(name: str, value: str) -> str:
    """Return the --set for an option that is named like a key of a study file, or ""."""
    from search.reading import hints
    from search.spec import synonyms

    key = name.replace("-", "_")
    if key in ("patience", "early_stopping", "early_stop", "early_stopping_rounds"):
        return f"--set {shlex.quote(f'search.early_stopping.patience={value}')}"
    sections = list(hints.sections())
    for section, names in sections:
        if key in names:
            return f"--set {shlex.quote(f'{section}.{key}={value}')}"
    for section, names in sections:
        if meant := synonyms.known_name(key, names):
            if meant == "direction":
                value = synonyms.known_name(value, ("maximize", "minimize")) or value
            return f"--set {shlex.quote(f'{section}.{meant}={value}')}"
    return ""
