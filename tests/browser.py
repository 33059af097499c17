"""Chromium without a window: what it says in its console, and what it asks a network for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
_REQUEST = "URL_REQUEST_START_JOB"


@dataclass(frozen=True)
class Visit:
    """One opened page: its DOM, console messages, and every URL that was asked for."""

    dom: str
    console: list[str]
    requests: list[str]


def chromium():
    """The program's path; skips the test where there is none."""
    path = next((found for found in map(shutil.which, NAMES) if found), None)
    if path is None:
        pytest.skip("needs Chromium on PATH (apt-get install chromium)")
    return path


def visit(page, folder, *flags):
    """Open a file, with a profile and logs of its own in ``folder``."""
    log = folder / "net.json"
    command = [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
        f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--net-log-capture-mode=Everything",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0", *flags, "--dump-dom", f"file://{page}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    console = [line for line in done.stderr.splitlines() if re.search(r"CONSOLE[:(]", line)]
    return Visit(done.stdout, console, _requests(log))


def screenshot(page, folder, *flags):
    """PNG bytes of a page."""
    target = folder / "shot.png"
    command = [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", *flags, f"--screenshot={target}", f"file://{page}",
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    return target.read_bytes()


def _requests(log):
    """URLs of all requests in a net log; those of the browser itself, which no page makes, are left out."""
    text = log.read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
    except ValueError:  # it was closed before its end was written
        content = json.loads(text.rstrip().rstrip(",") + "]}")
    kind = content["constants"]["logEventTypes"][_REQUEST]
    events = [e for e in content["events"] if e["type"] == kind and "url" in e.get("params", {})]
    ours = [e["params"]["url"] for e in events if e["params"].get("initiator") != "not an origin"]
    return [url for url in ours if not url.startswith(("file:", "data:", "chrome:"))]
