"""Serve optuna-dashboard for one study database: reading only, on this machine only.

optuna-dashboard has no login and lets whoever reaches it rename and delete studies. So three doors are shut:
the socket listens on 127.0.0.1, a gate in front of the app passes only known reads under a local name, and
SQLite opens the file with `mode=ro`. Optuna is imported only once there is something to serve.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from types import FrameType
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from search.errors import Interrupted, StoreError, UsageError
from search.storage import schema

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.storages import RDBStorage

ADDRESS = "127.0.0.1"

# A foreign site can let its own name point at 127.0.0.1 (DNS rebinding); the Host header gives it away.
_LOCAL_NAME = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)

# Every read of optuna-dashboard 0.21 but two that a study has no use for: artifacts, and the offer to migrate
# the schema. A list of what is open, because nobody has looked at the routes that a later version may add. A
# path that climbs (`..`, however it is encoded) is not on it either.
_OPEN_PATHS = re.compile(
    r"/?"
    r"|/dashboard(/studies/\d{1,9}(/[\w-]+)?|/[\w-]+)?/?"
    r"|/api/meta/?"
    r"|/api/studies(/\d{1,9}(/param_importances|/plot/\w+)?)?/?"
    r"|/csv/\d{1,9}/?"
    r"|/static/\w[\w.-]*"
    r"|/favicon\.ico",
    re.ASCII,
)

_PROTECTION = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

# How often a signal is looked for.
_LOOK_S = 0.1
_BUSY_TIMEOUT_S = 10.0
_DRAIN_LIMIT_BYTES = 1 << 20


def serve(database: Path, port: int, *, study: str | None = None, on_ready: Callable[[str], None]) -> None:
    """Serve the dashboard of `database` until SIGINT or SIGTERM, then return.

    `on_ready` is called once, when the socket listens, with the URL to open: the list of studies or, where
    `study` is named, that study's own page. Port 0 takes any free port. Raises StoreError for a database or
    study that can't be read and UsageError for a port that can't be had. Signals are handled only in the main
    thread.
    """
    with _stoppable() as signalled:
        try:
            app = application(database, interruption=signalled)
        except Interrupted:
            return
        page = "/dashboard" if study is None else f"/dashboard/studies/{_study_id(database, study)}"
        if signalled():
            return
        with _listen(app, port) as server:
            on_ready(f"http://{ADDRESS}:{server.server_port}{page}")
            # Not `serve_forever`: only an exception would end that, and one that a signal raises can be lost on its way.
            server.timeout = _LOOK_S
            while not signalled():
                server.handle_request()


def check_address(host: str, port: int) -> None:
    """Refuse any address but this machine's own, UsageError: the dashboard has no login."""
    if host in (ADDRESS, "localhost"):
        return
    port = port or 8080
    raise UsageError(
        f"--host: the dashboard has no login and is served on {ADDRESS} only; received {host!r}; leave --host out, and "
        f"on the machine that is to show it run: ssh -L {port}:{ADDRESS}:{port} {socket.gethostname()}, then open "
        f"http://{ADDRESS}:{port}/ there"
    )


def application(database: Path, *, interruption: Callable[[], int] = lambda: 0) -> WSGIApplication:
    """Build the gated WSGI application over `database`; StoreError if any other command would refuse it.

    Interrupted if `interruption` returns the number of a signal while a locked database is waited for.
    """
    database = database.absolute()
    # Before optuna's import costs a second.
    schema.connect(database, readonly=True, whole=True, interruption=interruption).close()
    storage = _open(database)
    from optuna_dashboard import wsgi

    return _gate(wsgi(storage))


def _connect(database: Path) -> sqlite3.Connection:
    # as_uri() percent-encodes the path: a "?" or "#" in a folder's name would end it, and mode=ro be lost.
    uri = f"{database.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)


def _open(database: Path) -> RDBStorage:
    """Open Optuna's storage on read-only connections."""
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import NullPool

    # A creator and not a URL: SQLAlchemy 2.0 takes a URL's path as it stands, 2.1 percent-decodes it first.
    # NullPool: no connection outlives its request, so none keeps files or locks that the writer waits for.
    return RDBStorage(
        "sqlite://",
        engine_kwargs={"creator": lambda: _connect(database), "poolclass": NullPool},
        skip_table_creation=True,
    )


def _study_id(database: Path, study: str) -> int:
    with closing(_connect(database)) as connection:
        ids = dict(connection.execute("SELECT study_name, study_id FROM studies").fetchall())
    if study not in ids:
        raise StoreError(f"{database} has no study {study!r}; it has {', '.join(ids) or 'none'}")
    return int(ids[study])


def _gate(app: WSGIApplication) -> WSGIApplication:
    """Let through only known reads under a local name, and add the protecting headers to every answer."""

    def gated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start = _with_protection(environ, start_response)
        refusal = _refusal(environ)
        if refusal is not None:
            _drain(environ)
            body = _refuse(*refusal, start)
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        # optuna-dashboard answers 500 to a client that names no encoding.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")
        return app(environ, start)

    return gated


def _refusal(environ: WSGIEnvironment) -> tuple[HTTPStatus, str] | None:
    if not _LOCAL_NAME.fullmatch(environ.get("HTTP_HOST", "")):
        return HTTPStatus.FORBIDDEN, f"open this dashboard as {ADDRESS} or localhost; other names are refused"
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        return HTTPStatus.METHOD_NOT_ALLOWED, "this dashboard is read-only; nothing was changed"
    if not _OPEN_PATHS.fullmatch(environ.get("PATH_INFO", "")):
        return HTTPStatus.NOT_FOUND, "this dashboard has no such page"
    return None


def _refuse(status: HTTPStatus, reason: str, start_response: StartResponse) -> bytes:
    # The page shows people the "reason" of an answer that failed.
    body = json.dumps({"reason": reason}).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    start_response(f"{status.value} {status.phrase}", headers)
    return body


def _drain(environ: WSGIEnvironment) -> None:
    # Closing a socket with unread bytes resets the connection, and the client may lose the answer.
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isascii() and length.isdigit():
        with suppress(OSError):
            environ["wsgi.input"].read(min(int(length), _DRAIN_LIMIT_BYTES))


def _with_protection(environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
    ours = dict(_PROTECTION)
    if environ.get("PATH_INFO", "").startswith(("/api/", "/csv/")):
        ours["Cache-Control"] = "no-store"
    names = {name.lower() for name in ours}

    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        kept = [(name, value) for name, value in headers if name.lower() not in names]
        return start_response(status, kept + list(ours.items()), *exc_info)

    return start


class _Handler(WSGIRequestHandler):
    timeout = 30  # seconds of silence after which a client's thread is freed

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the standard library's name)
        """Keep the terminal for the study."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a slow client must not hold up the end
    request_queue_size = 64

    def server_bind(self) -> None:
        # Not HTTPServer's: that one asks the resolver for our name, which takes seconds where there is none.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.socket.getsockname()[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up; a closed tab is no error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _listen(app: WSGIApplication, port: int) -> _Server:
    try:
        server = _Server((ADDRESS, port), _Handler)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"the dashboard can't listen on {ADDRESS}: {error}; received port {port}; "
            "choose another with --port (0 takes any that is free)"
        ) from error
    server.set_app(app)
    return server


@contextmanager
def _stoppable() -> Iterator[Callable[[], int]]:
    """Turn the first SIGINT or SIGTERM into a number to be asked for, and put the old handlers back.

    A handler that raises would do so wherever the main thread is: in a `__del__`, say, where Python drops the exception. The
    second signal ends the process at once.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        came.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
