"""A headless Chromium and a served dashboard, for any test that has a database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from support import PROGRAMS, ROOT

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers give 64 MB
    "--window-size=1400,2200",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Start Chromium with a fresh profile; `get_log("browser")` gives what its console said since the last call."""
    absent = [str(path) for path in (CHROMIUM, CHROMEDRIVER) if not path.exists()]
    if absent:
        reason = f"needs {' and '.join(absent)}: apt-get install chromium chromium-driver"
        # In CI a check that silently goes away is worse than one that fails.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    driver.set_page_load_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def served(browser: webdriver.Chrome) -> Callable[[Path, str], AbstractContextManager[str]]:
    """Give `with served(database, study) as url:`, a dashboard in a process of its own, for the browser."""

    @contextmanager
    def serve(database: Path, study: str = "") -> Iterator[str]:
        process = subprocess.Popen(
            [sys.executable, PROGRAMS / "serve_dashboard.py", str(database), study],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            url = process.stdout.readline().strip()
            assert url, f"the dashboard ended with {process.wait()}"
            yield url
        finally:
            # A page that is left open polls, and its console would have the refusals of a server that is gone.
            browser.get("about:blank")
            process.terminate()
            assert process.wait(timeout=20) == 0

    return serve
