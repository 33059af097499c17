"""A report in a real browser: nothing in the console, nothing asked of a network, nothing wider than a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from baseline_runs import baseline
from browser import chromium, screenshot, visit
from checked import faulty_files
from report_runs import layer_curve, write_run
from sortal.reporting.report import report

NAMES = ["good", "bad", "a_rather_long_label_with_underscores", "<script>alert(1)</script>"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """One page per task, and one of a run whose data is there and has faults."""
    chromium()
    folder = tmp_path_factory.mktemp("pages")
    baseline(faulty_files(folder), folder / "checked", method="majority", test=str(folder / "test.csv"))
    tasks = ("single", "multi")
    made = {task: write_run(folder / task, NAMES, task, training=layer_curve()) for task in tasks}
    return {name: Path(report(run).html) for name, run in {**made, "checked": folder / "checked"}.items()}


def changed(page, target, *replacements):
    text = page.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    target.write_text(text, encoding="utf-8")
    return target


POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
ANYTHING = (POLICY, "default-src * 'unsafe-inline'")


@pytest.mark.parametrize("task", ["single", "multi", "checked"])
def test_a_page_is_silent_and_asks_for_nothing(task, pages, tmp_path):
    seen = visit(pages[task], tmp_path)
    assert seen.console == []
    assert seen.requests == []
    assert "How to make it again" in seen.dom
    assert "<script" not in seen.dom


def test_a_console_error_would_be_seen(pages, tmp_path):
    broken = changed(
        pages["single"], tmp_path / "broken.html", ANYTHING, ("</body>", "<script>nothing()</script></body>")
    )
    assert any("nothing is not defined" in line for line in visit(broken, tmp_path).console)


def test_a_request_would_be_seen_and_the_page_forbids_it(pages, tmp_path):
    image = ("</main>", '<img alt="" src="http://127.0.0.1:9/seen.png"></main>')
    asking = changed(pages["single"], tmp_path / "asking.html", ANYTHING, image)
    assert visit(asking, tmp_path).requests == ["http://127.0.0.1:9/seen.png"]
    forbidden = visit(changed(pages["single"], tmp_path / "forbidden.html", image), tmp_path)
    assert forbidden.requests == []
    assert any("Content Security Policy" in line for line in forbidden.console)


def overflow(page, folder):
    """How many pixels a page is wider than a frame of 390, for a window of Chromium cannot be that narrow."""
    measure = "<script>const r = document.documentElement; document.title = 'over ' + (r.scrollWidth - r.clientWidth)</script>"
    measured = changed(page, folder / "measured.html", ANYTHING, ("</body>", f"{measure}</body>"))
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe src="{measured.name}" style="width:390px;height:800px;border:0" '
        'onload="document.title = this.contentDocument.title"></iframe>'
    )
    (pixels,) = re.findall(r"over (\d+)", visit(frame, folder, "--allow-file-access-from-files").dom)
    return int(pixels)


@pytest.mark.parametrize("task", ["single", "multi", "checked"])
def test_a_phone_never_scrolls_the_page_sideways(task, pages, tmp_path):
    assert overflow(pages[task], tmp_path) == 0


def test_a_page_that_is_too_wide_would_be_seen(pages, tmp_path):
    wide = changed(
        pages["single"], tmp_path / "wide.html", ("</main>", '<p style="width:600px">wide</p></main>')
    )
    assert overflow(wide, tmp_path) > 200


def test_dark_mode_changes_what_is_drawn(pages, tmp_path):
    light = screenshot(pages["single"], tmp_path)
    assert light == screenshot(pages["single"], tmp_path)
    assert light != screenshot(pages["single"], tmp_path, "--blink-settings=preferredColorScheme=0")
