"""The page's files and the report beside a model: what is sent, to whom, and that nothing else is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from served import refused, serving
from sortal.serving.keys import Keys
from sortal.serving.pages import FILES, report_of

HERE = {"Host": "127.0.0.1:8000"}


@pytest.fixture
def run(single: Path, tmp_path: Path) -> Path:
    """A run's folder with a report."""
    shutil.copytree(single.parent, tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text("<h1>Figures</h1>", encoding="utf-8")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def one(single: Path) -> Any:
    with serving(single) as served:
        yield served


def test_the_page_names_only_files_that_are_there(one):
    page = one.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:href|src)="(page/[^"]+)"', page.text)
    imported = [
        name
        for path in FILES
        if path.endswith(".js")
        for name in re.findall(r'from "\./([^"]+)"', one.client.get(path).text)
    ]
    assert {f"/{name}" for name in named} | {f"/page/{name}" for name in imported} == FILES.keys() - {"/"}


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_page_may_run_only_its_own_scripts_and_ask_only_its_own_server(path, one):
    response = one.client.get(path)
    assert response.status_code == 200
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_no_other_file_is_sent(one):
    for path in ("/page", "/page/", "/page/index.html", "/page/../app.py", "/page/%2e%2e/app.py", "/app.py"):
        refused(one.client.get(path), 404)
    refused(one.client.post("/", json={}), 405)


def test_the_page_needs_no_key_and_what_it_asks_for_does(run, tmp_path):
    (tmp_path / "keys").write_text("the-only-key-there-is\n")
    keys = Keys.read(str(tmp_path / "keys"))
    with serving(run / "model", keys=keys) as served:
        for path in FILES:
            assert served.client.get(path).status_code == 200
        refused(served.client.get("/report?model=m"), 401, "unauthorized")
        refused(served.client.post("/explain", json={"inputs": "a"}), 401, "unauthorized")
        right = {"Authorization": "Bearer the-only-key-there-is"}
        assert served.client.get("/info", headers=right).json()["models"][0]["report"] is True
        assert served.client.get("/report?model=m", headers=right).text == "<h1>Figures</h1>"


def test_a_report_is_sent_as_it_is_and_can_run_nothing(run):
    with serving(run / "model") as served:
        response = served.client.get("/report?model=m", headers=HERE)
        assert response.text == "<h1>Figures</h1>"
        assert response.headers["content-security-policy"].startswith("sandbox; default-src 'none';")
        assert served.client.get("/info", headers=HERE).json()["models"][0]["report"] is True
        refused(served.client.get("/report?model=../run", headers=HERE), 404)
        refused(served.client.get("/report", headers=HERE), 422)
        (run / "report.html").unlink()
        assert "sortal report" in refused(served.client.get("/report?model=m", headers=HERE), 404)
        assert served.client.get("/info", headers=HERE).json()["models"][0]["report"] is False


@pytest.mark.parametrize("host", ["evil.example:8000", "[", "", "127.0.0.1.evil.example", "192.168.0.9"])
def test_without_keys_a_name_from_elsewhere_gets_no_report(host, run):
    with serving(run / "model") as served:
        refused(served.client.get("/report?model=m", headers={"Host": host}), 404)
        assert served.client.get("/info", headers={"Host": host}).json()["models"][0]["report"] is False


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8000"])
def test_without_keys_this_machine_gets_it(host, run):
    with serving(run / "model") as served:
        assert served.client.get("/report?model=m", headers={"Host": host}).status_code == 200


def test_only_the_report_of_a_run_is_one(run, tmp_path):
    assert report_of(run / "model") == run / "report.html"
    shutil.copytree(run / "model", run / "other")
    assert report_of(run / "other") is None, "the report is not about this folder"
    (run / "run.json").unlink()
    assert report_of(run / "model") is None, "the folder is not a run's"


def test_a_link_is_no_report(run, tmp_path):
    (tmp_path / "secret.html").write_text("elsewhere")
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(tmp_path / "secret.html")
    assert report_of(run / "model") is None
