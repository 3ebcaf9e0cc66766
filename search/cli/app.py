"""The command line: its commands in the order of the help, and what an error becomes."""

from __future__ import annotations

import errno
import functools
import traceback
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from search import __version__
from search.cli import beginning, confirming, keeping, looking, modelling, reporting, running, standard_streams
from search.cli.commandline import Command, Group
from search.cli.printing import echo
from search.errors import ManyfitError

P = ParamSpec("P")

app = typer.Typer(
    name="manyfit",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hyperparameter search for Keras that loses nothing.\n\nExample: [bold]manyfit run studies/digits.toml[/]",
)


class _State:
    debug = False


def _version(wanted: bool) -> None:
    if wanted:
        print(f"manyfit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    _State.debug = debug


def _guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors of a command into one line on stderr and an exit code; a traceback only with --debug."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
            # A failed print does not fail `run`: its results are in files.
            if function is not running.run:
                _check_stdout()
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:  # noqa: BLE001 (the outermost edge: users get a line, not a traceback)
            if _State.debug:
                echo(traceback.format_exc().rstrip())
            line, exit_code = _explained(error)
            echo(f"manyfit: {line}")
            raise typer.Exit(exit_code) from None

    return guarded


def _explained(error: Exception) -> tuple[str, int]:
    """Return the line about an error, and the exit code."""
    if isinstance(error, ManyfitError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        file = f": {_shorten(str(error.filename))}" if error.filename else ""
        # An impossible file name is a mistake on the command line.
        return f"{error.strerror or error}{file}", 2 if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else 1
    return (
        f"this should not have happened: {type(error).__name__}: {error}; "
        "what was stored is safe. Run `manyfit --debug ...` for a traceback and report it"
    ), 1


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:80]}...{text[-80:]}"


def _check_stdout() -> None:
    """Raise OSError, for exit code 1, if stdout could not be written. A reader that closed the pipe early is not an error."""
    error = standard_streams.stdout_error()
    if error is not None and not isinstance(error, BrokenPipeError):
        raise OSError(error.errno, error.strerror, "stdout")


# In the order of a study's life, which is that of `manyfit --help`.
for _function in (
    beginning.init,
    running.check,
    running.plan,
    running.run,
    looking.list_,
    looking.show,
    reporting.report,
    reporting.compare,
    looking.dashboard,
    confirming.confirm,
    beginning.refine,
    looking.export,
    modelling.retrain,
    modelling.ensemble,
    modelling.evaluate,
    modelling.predict,
    modelling.plot_model,
    keeping.verify,
    keeping.clean,
    keeping.copy,
    keeping.rename,
    keeping.delete,
    running.doctor,
):
    app.command(_function.__name__.rstrip("_").replace("_", "-"), cls=Command)(_guarded(_function))


def main() -> None:
    """Run the command line."""
    standard_streams.guard()
    app()
