"""``/explain``: the effect of each word is what the model says without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sortal
from served import PATIENCE, Hold, asking, refused, serving
from sortal.serving.shapes import ExplainReply

TEXT = "a fine and nice parcel"


@pytest.fixture(scope="module")
def both(single: Path, multi: Path) -> Any:
    with serving({"single": single, "multi": multi}) as served:
        yield served


def test_the_effect_of_a_word_is_what_the_log_odds_lose_without_it(both, single):
    response = both.client.post(
        "/explain", json={"inputs": TEXT, "model": "single", "labels": ["good", "odd"]}
    )
    reply = ExplainReply.model_validate(response.json())
    assert [word.text for word in reply.words] == ["a ", "fine ", "and ", "nice ", "parcel"]
    assert (reply.model, reply.labels, reply.texts) == ("single", ["good", "odd"], 6)
    left = [
        TEXT,
        "fine and nice parcel",
        "a and nice parcel",
        "a fine nice parcel",
        "a fine and parcel",
        "a fine and nice",
    ]
    classifier = sortal.load(single)
    expected = classifier.predict_proba(left)[:, [classifier.classes_.index(name) for name in reply.labels]]
    assert reply.scores == pytest.approx(expected[0])
    assert [word.scores for word in reply.words] == pytest.approx(expected[1:])
    odds = np.log(expected / (1 - expected))
    assert np.array([word.effects for word in reply.words]) == pytest.approx(odds[0] - odds[1:])
    strongest = max(reply.words, key=lambda word: word.effects[0])
    assert strongest.text.strip() in ("fine", "nice")


def test_without_labels_it_is_about_the_most_probable_one(both):
    assert both.client.post("/explain", json={"inputs": TEXT, "model": "single"}).json()["labels"] == ["good"]
    several = both.client.post("/explain", json={"inputs": "money back", "model": "multi"}).json()
    assert several["labels"] == ["m"]
    assert max(several["words"], key=lambda word: word["effects"][0])["text"] == "money "


@pytest.mark.parametrize("text", ["", "  \n "])
def test_a_text_without_words_has_no_effects(both, text):
    reply = ExplainReply.model_validate(
        both.client.post("/explain", json={"inputs": text, "model": "single"}).json()
    )
    assert (reply.words, reply.texts) == ([], 1)


def test_a_lone_surrogate_comes_back_as_it_was_read(both):
    body = b'{"inputs": "a \\ud83d b", "model": "single"}'
    reply = both.client.post("/explain", content=body, headers={"content-type": "application/json"}).json()
    assert "".join(word["text"] for word in reply["words"]) == "a \ufffd b"


def test_a_long_text_takes_no_more_texts_than_a_request_may_have(both, single):
    long = "word " * 1000
    assert both.client.post("/explain", json={"inputs": long, "model": "single"}).json()["texts"] == 65
    with serving(single, max_texts=5) as served:
        reply = served.client.post("/explain", json={"inputs": long}).json()
        assert (reply["texts"], len(reply["words"])) == (5, 4)
    with serving(single, max_texts=1) as served:
        refused(served.client.post("/explain", json={"inputs": long}), 413)


def test_it_never_scores_more_bytes_than_a_request_may_have(single):
    with serving(single, max_body_bytes=1000) as served:
        reply = served.client.post("/explain", json={"inputs": "word " * 50}).json()
        assert (reply["texts"], len(reply["words"])) == (4, 3)
        refused(served.client.post("/explain", json={"inputs": "word " * 150}), 413)


def test_its_texts_count_for_the_queue(single, monkeypatch):
    with serving(single, max_queue=6) as served:
        hold, answers = Hold(monkeypatch), []
        thread = asking(served, "a", answers)
        assert hold.entered.wait(PATIENCE)
        response = served.client.post("/explain", json={"inputs": TEXT})
        assert "too many texts" in refused(response, 429, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
        hold.release()
        thread.join(PATIENCE)
        assert served.client.post("/explain", json={"inputs": TEXT}).json()["texts"] == 6
        assert [line["texts"] for line in served.requests("/explain")] == [6, 6]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"inputs": ["a", "b"]}, 422, "inputs"),
        ({"inputs": "a", "labels": []}, 422, "labels"),
        ({"inputs": "a", "labels": ["good", "good"]}, 422, "labels must name each label once"),
        ({"inputs": "a", "labels": ["nonsense"]}, 422, "one that the model does not have"),
        ({"inputs": "a", "model": "other"}, 404, "no such model"),
        ({"labels": ["good"]}, 422, "inputs is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_with_a_sentence(both, body, status, sentence):
    said = refused(both.client.post("/explain", json={"model": "single", **body}), status)
    assert sentence in said
    assert "nonsense" not in said
