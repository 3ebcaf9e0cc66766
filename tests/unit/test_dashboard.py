"""The dashboard reads one database, on this machine, and changes nothing."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from support import PROGRAMS, ROOT
from typer.testing import CliRunner

from search import cli
from search.errors import StoreError, UsageError
from search.storage import connecting, schema
from search.storage.advice import advising
from search.views import dashboard

SERVE = PROGRAMS / "serve_dashboard.py"


@dataclass
class Served:
    """A dashboard in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    port: int

    def ask(self, method, path, *, headers=None, body=None):
        """Send one request and return its status, headers and body; `path` goes out as it stands."""
        headers = {"Host": f"127.0.0.1:{self.port}"} | (headers or {})
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in headers.items():
                for one in value if isinstance(value, list) else [value]:
                    connection.putheader(name, one)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def get_json(self, path):
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)


@contextmanager
def served(database: Path, study: str = "") -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, SERVE, str(database), study],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        url = process.stdout.readline().strip()
        assert url, process.stderr.read()
        yield Served(process, url, int(re.search(r":(\d+)/", url)[1]))
    finally:
        process.kill()
        process.communicate()


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.suggest_categorical("kind", ["a", "b"])
    for epoch in (1, 2, 3):
        trial.report(x / epoch, epoch)
    if trial.number % 4 == 3:
        raise optuna.TrialPruned
    return x


def make_database(path: Path, name: str = "first", trials: int = 8) -> Path:
    """Write a database of ours, with a study of plain Optuna's, in WAL mode and leave nothing but its main file."""
    schema.create(path)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    optuna.create_study(study_name=name, storage=storage).optimize(objective, n_trials=trials)
    storage.engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
    assert list(path.parent.glob(f"{path.name}-*")) == []
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return make_database(tmp_path_factory.mktemp("original") / "study.db")


@pytest.fixture
def database(original, tmp_path) -> Path:
    return Path(shutil.copy(original, tmp_path / "study.db"))


@pytest.fixture(scope="module")
def shared(original, tmp_path_factory) -> Iterator[tuple[Served, Path]]:
    """One server for all tests that only ask, over a file whose name means something in a URL."""
    folder = tmp_path_factory.mktemp("odd") / "50% of #1?mode=rw&x={y}"
    folder.mkdir()
    database = Path(shutil.copy(original, folder / "a b%20?.db"))
    with served(database) as server:
        yield server, database


READS = [
    "/dashboard",
    "/dashboard/",
    "/dashboard/studies/1",
    "/dashboard/studies/1/smartSelection",
    "/api/meta",
    "/api/studies",
    "/api/studies/1",
    "/api/studies/1?after=3",
    "/api/studies/1/param_importances",
    "/api/studies/1/plot/slice",
    "/csv/1",
    "/csv/1?trial_ids=0,1",
    "/favicon.ico",
    "/static/bundle.js",
]


@pytest.mark.parametrize("path", READS)
def test_reads_are_answered(shared, path):
    status, headers, body = shared[0].ask("GET", path)
    assert status == 200, body
    assert len(body) == int(headers["Content-Length"]) > 0


@pytest.mark.parametrize("path", READS)
def test_head_answers_like_get_but_for_the_body(shared, path):
    status, headers, body = shared[0].ask("HEAD", path)
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_root_leads_to_the_dashboard(shared):
    status, headers, _ = shared[0].ask("GET", "/")
    assert status in {302, 303}
    assert headers["Location"].endswith("/dashboard")


def test_trials_arrive_with_their_values(shared):
    trials = shared[0].get_json("/api/studies/1")["trials"]
    assert [trial["state"] for trial in trials] == ["Complete", "Complete", "Complete", "Pruned"] * 2
    assert all(len(trial["intermediate_values"]) == 3 for trial in trials)


WRITES = [
    ("POST", "/api/studies", {"study_name": "mine", "directions": ["minimize"]}),
    ("POST", "/api/studies/1/rename", {"study_name": "mine"}),
    ("DELETE", "/api/studies/1", {}),
    ("PUT", "/api/studies/1/note", {"version": 1, "body": "mine"}),
    ("POST", "/api/trials/1/tell", {"state": "Fail"}),
    ("POST", "/api/trials/1/user-attrs", {"user_attrs": {"mine": 1}}),
    ("PUT", "/api/studies/1/1/note", {"version": 1, "body": "mine"}),
    ("POST", "/incompatible-rdb-schema", {}),
    ("PATCH", "/api/studies/1", {}),
    ("OPTIONS", "/api/studies/1", {}),
    ("TRACE", "/dashboard", {}),
    ("CONNECT", "/dashboard", {}),
    ("DESTROY", "/dashboard", {}),
    ("get", "/api/studies/1", {}),
]


@pytest.mark.parametrize(("method", "path", "content"), WRITES)
def test_writes_are_refused_and_leave_the_file_as_it_was(shared, method, path, content):
    """B6."""
    server, database = shared
    before = database.read_bytes()
    status, headers, body = server.ask(method, path, body=json.dumps(content).encode())
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert "read-only" in json.loads(body)["reason"]
    assert body.count(b"\n") == 1
    assert database.read_bytes() == before


def test_refusal_reaches_a_client_that_sent_much(shared):
    status, _, body = shared[0].ask("PUT", "/api/studies/1/note", body=b"x" * 900_000)
    assert status == 405
    assert b"read-only" in body


@pytest.mark.parametrize("path", ["/artifacts/1/ab", "/incompatible-rdb-schema", "/api/llm/x", "/sql-profiler"])
def test_pages_that_a_study_does_not_need_are_closed(shared, path):
    assert shared[0].ask("GET", path)[0] == 404


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example#localhost",
        "evil@localhost",
        "localhost:80:80",
        "10.0.0.1",
        "192.168.1.1",
        "",
        ["127.0.0.1", "evil.example"],
    ],
)
def test_foreign_host_is_refused(shared, host):
    """B6."""
    for method in ("GET", "POST"):
        status, _, body = shared[0].ask(method, "/api/studies", headers={"Host": host})
        assert status == 403
        assert b"first" not in body
    assert shared[0].ask("HEAD", "/api/studies", headers={"Host": host})[::2] == (403, b"")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
@pytest.mark.parametrize("port", ["", ":1", ":65535"])
def test_local_host_is_answered(shared, name, port):
    assert shared[0].ask("GET", "/api/studies", headers={"Host": name + port})[0] == 200


@pytest.mark.parametrize("root", ["/", "/static/", "/dashboard/", "/artifacts/1/", "/csv/", "/static/x/"])
@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fetc/passwd",
        "..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "../../../../../../../../../../etc/passwd",
        "..%252f..%252fetc%252fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%5c..%5cetc%5cpasswd",
        "%2fetc%2fpasswd",
        "bundle.js%00.html",
        "..",
    ],
)
def test_climbing_paths_are_refused(shared, root, path):
    """B6."""
    status, _, body = shared[0].ask("GET", root + path)
    assert 400 <= status < 500
    assert b"root:" not in body


@pytest.mark.parametrize("path", ["/dashboard", "/api/studies/1", "/csv/1", "/static/bundle.js", "/nowhere"])
def test_every_answer_carries_the_protecting_headers(shared, path):
    _, headers, _ = shared[0].ask("GET", path)
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("Referrer-Policy") == ["no-referrer"]
    assert headers.get_all("Cross-Origin-Resource-Policy") == ["same-origin"]
    assert headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    assert headers["Access-Control-Allow-Origin"] is None
    assert (headers["Cache-Control"] == "no-store") is path.startswith(("/api/", "/csv/"))


def test_page_keeps_its_own_content_security_policy(shared):
    assert "default-src 'self'" in shared[0].ask("GET", "/dashboard")[1]["Content-Security-Policy"]


def test_bundle_is_compressed_for_those_who_take_it(shared):
    _, headers, body = shared[0].ask("GET", "/static/bundle.js", headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert body[:2] == b"\x1f\x8b"


def test_only_the_loopback_address_listens(shared):
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", shared[0].port), timeout=5)


def test_sqlite_itself_refuses_to_write(shared):
    _, database = shared
    before = database.read_bytes()
    with pytest.raises(optuna.exceptions.StorageInternalError) as caught:
        dashboard._open(database).create_new_study([optuna.study.StudyDirection.MINIMIZE], "mine")
    assert "readonly" in str(caught.value.__cause__)
    assert database.read_bytes() == before


def test_wal_database_without_its_side_files_is_read_and_left_alone(database):
    before = database.read_bytes()
    assert before[18:20] == b"\x02\x02"  # the header's mark of WAL mode
    with served(database) as server:
        for path in READS:
            assert server.ask("GET", path)[0] == 200
    assert database.read_bytes() == before


def test_relative_path_is_served(database, monkeypatch):
    monkeypatch.chdir(database.parent)
    with served(Path(database.name)) as server:
        assert server.get_json("/api/studies")["study_summaries"][0]["study_name"] == "first"


def test_named_study_opens_its_own_page(database):
    storage = f"sqlite:///{database}"
    optuna.create_study(study_name="second one", storage=storage)
    with served(database, "second one") as server:
        assert server.url == f"http://127.0.0.1:{server.port}/dashboard/studies/2"
    with served(database) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/dashboard"


def test_polling_shows_new_trials_of_a_running_study(database):
    study = optuna.load_study(study_name="first", storage=f"sqlite:///{database}")
    with served(database) as server:
        assert len(server.get_json("/api/studies/1")["trials"]) == 8
        running = study.ask()
        running.report(0.5, 1)
        assert _polled(server, 9)[-1]["state"] == "Running"
        running.report(0.4, 2)
        study.tell(running, 0.4)
        study.ask()
        trial = _polled(server, 10)[8]
        assert (trial["state"], trial["values"], len(trial["intermediate_values"])) == ("Complete", [0.4], 2)


def _polled(server: Served, count: int) -> list[dict]:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        trials = server.get_json("/api/studies/1")["trials"]
        if len(trials) == count:
            return trials
        time.sleep(0.5)
    raise AssertionError(f"{count} trials were never shown; received {len(trials)}")


def test_five_clients_poll_while_a_study_is_written(database):
    study = optuna.load_study(study_name="first", storage=f"sqlite:///{database}")
    over = threading.Event()
    answers: list[list[int]] = [[] for _ in range(5)]
    paths = ["/api/studies", "/api/studies/1", "/api/studies/1/param_importances", "/csv/1", "/dashboard"]

    def poll(server: Served, seen: list[int]) -> None:
        while not over.is_set():
            seen.append(server.ask("GET", paths[len(seen) % len(paths)])[0])
            over.wait(0.5)

    with served(database) as server:
        clients = [threading.Thread(target=poll, args=(server, seen)) for seen in answers]
        for client in clients:
            client.start()
        try:
            study.optimize(objective, timeout=6)
        finally:
            over.set()
            for client in clients:
                client.join()
    assert {status for seen in answers for status in seen} == {200}
    assert min(map(len, answers)) >= 5
    trials = study.get_trials(deepcopy=False)
    assert len(trials) > 20
    assert all(trial.state.is_finished() for trial in trials)


def _not_sqlite(path: Path) -> None:
    path.write_bytes(b"not a database, but quite long enough to be one" * 99)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _pages(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4] + b"\xff" * (len(whole) // 4))


def _plain_optuna(path: Path) -> None:
    path.unlink()
    optuna.create_study(storage=f"sqlite:///{path}")


def _other_schema(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99.0.0'")


def _other_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE version_info SET schema_version = 13")


def _no_schema_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")


def _no_version_row(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM version_info")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        _missing,
        _folder,
        _empty,
        _not_sqlite,
        _foreign,
        _truncated,
        _pages,
        _plain_optuna,
        _other_schema,
        _other_version,
        _no_schema_version,
        _no_version_row,
    ],
)
def test_database_that_is_none_is_refused_like_everywhere_and_left_alone(database, spoil):
    spoil(database)
    before = database.read_bytes() if database.is_file() else None
    with pytest.raises(StoreError, match=re.escape(str(database))) as elsewhere, advising():
        connecting.connect(database, readonly=False)
    with pytest.raises(StoreError) as caught:
        dashboard.serve(database, 0, on_ready=pytest.fail)
    assert str(caught.value) == str(elsewhere.value)
    assert (database.read_bytes() if database.is_file() else None) == before


def test_unknown_study_is_refused_with_those_that_are_there(database):
    with pytest.raises(StoreError, match=r"has no study 'other'; it has first"):
        dashboard.serve(database, 0, study="other", on_ready=pytest.fail)


def test_port_in_use_is_refused_with_what_to_do(database):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"in use; received port {port}; choose another with --port"):
            dashboard.serve(database, port, on_ready=pytest.fail)


@pytest.mark.parametrize("port", [-1, 65536, 10**20])
def test_port_that_does_not_exist_is_refused(database, port):
    with pytest.raises(UsageError, match="--port"):
        dashboard.serve(database, port, on_ready=pytest.fail)


@pytest.mark.parametrize("host", ["192.168.0.255", "", "::", "192.168.0.7", "127.0.0.1.evil.example", "box.example"])
def test_another_address_is_refused_with_the_line_for_an_ssh_tunnel(database, host):
    """B6."""
    done = CliRunner().invoke(cli.app, ["dashboard", str(database), "--host", host, "--port", "8081"])
    assert done.exit_code == 2
    assert f"--host: the dashboard has no login and is served on 127.0.0.1 only; received {host!r}" in done.stderr
    assert f"ssh -L 8081:127.0.0.1:8081 {socket.gethostname()}, then open http://127.0.0.1:8081/" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_own_address_may_be_named():
    for host in ("127.0.0.1", "localhost"):
        dashboard.check_address(host, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_cleanly_and_quietly(database, number):
    with served(database) as server:
        for path in [*READS, "/nowhere"]:
            server.ask("GET", path)
        socket.create_connection(("127.0.0.1", server.port)).close()
        with socket.create_connection(("127.0.0.1", server.port)):  # a client that never asks
            server.process.send_signal(number)
            out, err = server.process.communicate(timeout=10)
    assert (server.process.returncode, out, err) == (0, "returned\n", "")


@pytest.mark.parametrize("tries", [10, pytest.param(100, marks=pytest.mark.faults)])
@pytest.mark.timeout(600)
def test_no_signal_is_lost_while_pages_are_asked_for(database, tries):
    """F4: a handler that raised could do so in a `__del__` or a callback, where Python drops the exception: 1 try of 30.

    Processes are forked from one that has all imports, so that a try takes a fraction of a second.
    """
    done = subprocess.run(
        [sys.executable, LOOP, str(database), str(tries)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (0, f"{tries} ended\n"), done.stderr


LOOP = PROGRAMS / "end_dashboards.py"


def test_handlers_are_put_back(database):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def stop(url: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    dashboard.serve(database, 0, on_ready=stop)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_importing_the_module_is_cheap():
    code = (
        "import sys, search.views.dashboard\n"
        "print([m for m in ('optuna', 'optuna_dashboard', 'sqlalchemy', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert run.stdout == "[]\n"
