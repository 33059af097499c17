"""What the page of ``sortal serve`` says when there is no answer, and that nothing is lost."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from served import PATIENCE, Hold, asking
from sortal.serving.models import ServedModel
from visits import classify, downloaded, label_rows, open_server

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright (pip install playwright)").expect

TEXT = "a fine and nice parcel"


# what goes wrong


def test_a_busy_server_is_told_kindly_and_a_file_waits_for_it(visit, made, monkeypatch):
    with open_server(made("tfidf"), max_queue=1) as (url, served):
        page = visit(url).page
        expect(page.get_by_label("Text", exact=True)).to_be_focused()
        hold, answers = Hold(monkeypatch), []
        thread = asking(served, "a", answers)
        assert hold.entered.wait(PATIENCE)
        page.get_by_label("Text", exact=True).fill(TEXT)
        page.get_by_role("button", name="Classify").click()
        alert = page.get_by_role("alert")
        expect(alert).to_have_text(
            re.compile(r"more to do than it can take.*your text is still here\. Try again in \d+ seconds?\.")
        )
        assert page.get_by_label("Text", exact=True).input_value() == TEXT
        label_rows(page, [["text"], ["fine"], ["poor"]], "text")
        expect(page.locator("#bar-words")).to_contain_text("The server is busy; going on in")
        hold.release()
        thread.join(PATIENCE)
        expect(page.locator("#table-caption")).to_have_text("2 labelled rows")
        expect(alert).to_be_empty()


def test_other_refusals_are_sentences_with_what_to_do(visit, made, monkeypatch):
    with open_server(made("tfidf"), max_body_bytes=3000) as (url, served):
        page = visit(url).page
        alert = page.get_by_role("alert")
        expect(page.get_by_label("Text", exact=True)).to_be_focused()

        def told(text: str, sentence: str) -> None:
            page.get_by_label("Text", exact=True).fill(text)
            page.get_by_role("button", name="Classify").click()
            expect(alert).to_have_text(re.compile(sentence))

        told("long " * 1000, "more than the server takes at once")
        label_rows(page, [["text"], ["fine"], ["long " * 1000], ["poor"]], "text")
        expect(page.locator("#table-caption")).to_have_text("3 labelled rows; 1 text could not be scored")
        assert [row[1:] for row in downloaded(page)[1][1:]][1] == ["", ""]
        with monkeypatch.context() as patch:
            patch.setattr(ServedModel, "answer", lambda model, texts: 1 / 0)
            told("fine", "its log has the reason under [0-9a-f]{32}")
        served.service.draining = True
        told("fine", r"cannot answer now: the server is stopping.*Try again in 1 second\.")
        served.service.draining = False
        page.context.set_offline(True)
        told("fine", "Check that sortal serve is running")
        page.context.set_offline(False)
        classify(page, "fine")
        expect(alert).to_be_empty()
    page.get_by_label("or a CSV file").set_input_files(
        {"name": "sheet.xlsx", "mimeType": "x", "buffer": b"PK\x03\x04"}
    )
    expect(alert).to_have_text(
        re.compile(r"sheet\.xlsx cannot be read: it is a spreadsheet.*save it as CSV in UTF-8\.")
    )


def test_it_waits_for_models_that_are_still_loaded(visit, made):
    with open_server(made("tfidf"), start=False) as (url, served):
        page = visit(url).page
        expect(page.get_by_role("alert")).to_contain_text("the models are being loaded")
        served.service.start()
        expect(page.get_by_role("alert")).to_be_empty()
        classify(page, "fine")
        served.service.close(PATIENCE)


def test_labelling_can_be_stopped_and_what_is_done_is_kept(visit, made, monkeypatch):
    with open_server(made("tfidf"), max_texts=4) as (url, _):
        page = visit(url).page
        expect(page.get_by_label("Text", exact=True)).to_be_focused()
        answer, asked = ServedModel.answer, []

        def slower(model: ServedModel, texts: list[str]) -> Any:
            asked.extend(texts)
            if len(asked) > 4:
                assert stopped.wait(PATIENCE)
            return answer(model, texts)

        stopped = threading.Event()
        monkeypatch.setattr(ServedModel, "answer", slower)
        label_rows(page, [["text"], *([f"fine {n}"] for n in range(100))], "text")
        expect(page.locator("#bar-words")).to_contain_text("4 of 100 rows")
        page.get_by_role("button", name="Stop").click()
        stopped.set()
        expect(page.locator("#bar-words")).to_have_text("Stopped: 4 of 100 rows are labelled.")
        assert len(downloaded(page)[1]) == 5
        expect(page.get_by_role("button", name="Stop")).to_be_hidden()
