"""Serve optuna-dashboard for one study database: read-only, and on this machine only.

optuna-dashboard has no login and lets everybody who reaches it rename and delete studies. Three things prevent that: the
socket listens on 127.0.0.1, a gate in front of the app passes only known reads under a local name, and SQLite opens the
file with `mode=ro`. Optuna is imported only after the database has passed its checks.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from search.errors import Interrupted, StoreError, UsageError
from search.signals import signals
from search.storage import records

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.storages import RDBStorage

ADDRESS = "127.0.0.1"

# A foreign site can point its own name at 127.0.0.1 (DNS rebinding); the Host header then holds that name.
_LOCAL_NAME = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)

# Every read of optuna-dashboard 0.21 except two that a study does not need: artifacts, and the offer to migrate the schema.
# The list names what is allowed, so that a route which a later version adds stays closed. A path with `..` never matches,
# in whatever way it is encoded.
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

# How often the server checks for a signal.
_POLL_S = 0.1
_BUSY_TIMEOUT_S = 10.0
_DRAIN_LIMIT_BYTES = 1 << 20


def serve(database: Path, port: int, *, study: str | None = None, on_ready: Callable[[str], None]) -> None:
    """Serve the dashboard of `database` until SIGINT, SIGTERM or SIGHUP, then return.

    Calls `on_ready` once, when the socket listens, with the URL to open: the page of `study`, or the list of studies if
    `study` is None. Port 0 takes any free port. Raises StoreError if the database or the study can't be read, and UsageError
    if the port can't be used. Signals are handled only in the main thread.
    """
    with signals(double_press_s=0.0) as signalled:
        try:
            app = application(database, interruption=signalled)
        except Interrupted:
            return
        page = "/dashboard" if study is None else f"/dashboard/studies/{_study_id(database, study)}"
        if signalled():
            return
        with _listen(app, port) as server:
            on_ready(f"http://{ADDRESS}:{server.server_port}{page}")
            # Not `serve_forever`: only an exception would end it, and an exception raised in a signal handler can get lost.
            server.timeout = _POLL_S
            while not signalled():
                server.handle_request()


def check_address(host: str, port: int) -> None:
    """Raise UsageError for any address except this machine's own: the dashboard has no login."""
    if host in (ADDRESS, "localhost"):
        return
    port = port or 8080
    raise UsageError(
        f"--host: the dashboard has no login and is served on {ADDRESS} only; received {host!r}; leave --host out, and "
        f"on the machine that is to show it run: ssh -L {port}:{ADDRESS}:{port} {socket.gethostname()}, then open "
        f"http://{ADDRESS}:{port}/ there"
    )


def application(database: Path, *, interruption: Callable[[], int] = lambda: 0) -> WSGIApplication:
    """Build the gated WSGI application over `database`; StoreError for a database that other commands refuse, too.

    Interrupted if `interruption` returns the number of a signal while another program holds the database locked.
    """
    database = database.absolute()
    # Check before the import of optuna, which takes a second.
    records.check_pages(database, interruption=interruption)
    storage = _open(database)
    from optuna_dashboard import wsgi

    return _gate(wsgi(storage))


def _connect(database: Path) -> sqlite3.Connection:
    # as_uri() percent-encodes the path: a "?" or "#" in a folder's name would end the path, and mode=ro would be lost.
    uri = f"{database.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)


def _open(database: Path) -> RDBStorage:
    """Open Optuna's storage on read-only connections."""
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import NullPool

    # A creator, not a URL: SQLAlchemy 2.0 takes a URL's path as it is, 2.1 percent-decodes it first.
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
    """Let only known reads under a local name through, and add the protecting headers to every response."""

    def gated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start = _with_protection(environ, start_response)
        refusal = _refusal(environ)
        if refusal is not None:
            _drain(environ)
            body = _refuse(*refusal, start)
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        # Without this header optuna-dashboard responds with status 500.
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
    # optuna-dashboard's page shows the "reason" of a failed response.
    body = json.dumps({"reason": reason}).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    start_response(f"{status.value} {status.phrase}", headers)
    return body


def _drain(environ: WSGIEnvironment) -> None:
    # Closing a socket with unread bytes resets the connection, and the client may lose the response.
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
    daemon_threads = True  # a slow client must not delay the shutdown
    request_queue_size = 64

    def server_bind(self) -> None:
        # Not HTTPServer's own: it resolves our host name, which takes seconds without a resolver.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.socket.getsockname()[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing for a client that hangs up: a closed tab is not an error."""
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
