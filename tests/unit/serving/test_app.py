"""The endpoints: their shapes, their errors, readiness and the end."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

import sortal
from served import PATIENCE, Hold, asking, refused, serving
from sortal.errors import ModelError
from sortal.serving.models import ServedModel
from sortal.serving.shapes import ClassifyReply, Label
from tiny_runs import edit_json


@pytest.fixture(scope="module")
def both(single: Path, multi: Path) -> Any:
    with serving({"single": single, "multi": multi}) as served:
        yield served


@pytest.fixture(scope="module")
def one(single: Path) -> Any:
    with serving(single) as served:
        yield served


# /predict


def test_a_text_gets_its_labels_best_first_and_a_list_a_list_of_them(one, single):
    classifier = sortal.load(single)
    texts = ["fine and nice", "poor ugly", ""]
    expected = classifier.predict_proba(texts)
    found = one.client.post("/predict", json={"inputs": texts}).json()
    for labels, row, predicted in zip(found, expected, classifier.predict(texts), strict=True):
        TypeAdapter(list[Label]).validate_python(labels)
        assert {label["label"]: label["score"] for label in labels} == dict(
            zip(classifier.classes_, row.tolist(), strict=True)
        )
        assert [label["score"] for label in labels] == sorted(row.tolist(), reverse=True)
        assert [label["label"] for label in labels if label["predicted"]] == [predicted]
    assert one.client.post("/predict", json={"inputs": texts[0]}).json() == found[0]
    assert one.client.post("/predict", json={"inputs": [texts[0]]}).json() == found[:1]
    assert one.client.post("/predict", json={"inputs": []}).json() == []


def test_top_k_cuts_the_list(one):
    asked = {"inputs": "fine and nice", "parameters": {"top_k": 1}, "truncate": True}
    assert [label["label"] for label in one.client.post("/predict", json=asked).json()] == ["good"]
    asked["parameters"] = {"top_k": 2.0}  # a whole number, to JSON
    assert len(one.client.post("/predict", json=asked).json()) == 2


def test_thresholds_decide_in_a_multi_label_model_and_not_one_half(both, multi, tmp_path):
    shutil.copytree(multi, tmp_path / "model")
    meta = json.loads((multi / "sortal.json").read_text())
    meta["decision"]["thresholds"] = [0.999, 0.0]  # of "m" and "p"
    edit_json(tmp_path / "model" / "sortal.json", decision=meta["decision"])
    with serving(tmp_path / "model") as served:
        found = served.client.post("/predict", json={"inputs": ["money back", "hello"]}).json()
        classified = served.client.post("/classify", json={"input": ["money back", "hello"]}).json()
    assert [{label["label"] for label in labels if label["predicted"]} for labels in found] == [{"p"}, {"p"}]
    assert [row["labels"] for row in classified["data"]] == [["p"], ["p"]]
    plain = both.client.post("/predict", json={"inputs": ["late parcel money", "hello"], "model": "multi"})
    assert [{label["label"] for label in labels if label["predicted"]} for labels in plain.json()] == [
        {"m", "p"},
        set(),
    ]


def test_a_model_that_abstains_predicts_nothing(single, tmp_path):
    shutil.copytree(single, tmp_path / "model")
    meta = json.loads((single / "sortal.json").read_text())
    edit_json(tmp_path / "model" / "sortal.json", decision={**meta["decision"], "abstain_below": 0.9})
    with serving(tmp_path / "model") as served:
        texts = ["fine nice lovely", "of nothing known"]
        sure, unsure = served.client.post("/predict", json={"inputs": texts}).json()
        rows = served.client.post("/classify", json={"input": texts}).json()["data"]
    assert [label["label"] for label in sure if label["predicted"]] == ["good"]
    assert [label for label in unsure if label["predicted"]] == []
    assert [(row["label"], row["labels"]) for row in rows] == [("good", ["good"]), (None, [])]


def test_a_lone_surrogate_is_read_as_in_files(one):
    body = b'{"inputs": ["a \\ud83d b", "a \\ufffd b"]}'
    found = one.client.post("/predict", content=body, headers={"content-type": "application/json"}).json()
    assert found[0] == found[1]


# /classify


def test_classify_has_vllms_shape(both, multi):
    asked = {"input": ["late parcel money", "hello"], "model": "multi"}
    response = both.client.post("/classify", json=asked, headers={"X-Request-Id": "abc"})
    reply = ClassifyReply.model_validate(response.json())
    assert (reply.id, reply.object, reply.model) == ("classify-abc", "list", "multi")
    assert [row.index for row in reply.data] == [0, 1]
    assert [row.num_classes for row in reply.data] == [2, 2]
    expected = sortal.load(multi).predict_proba(asked["input"]).tolist()
    assert [row.probs for row in reply.data] == expected
    first = reply.data[0]
    assert first.labels == ["m", "p"]
    assert first.label == first.labels[first.probs.index(max(first.probs))]
    assert (reply.data[1].label, reply.data[1].labels) == (None, [])


# models


def test_several_models_are_asked_by_name(both):
    for name, label in (("single", "good"), ("multi", "m")):
        found = both.client.post("/predict", json={"inputs": "x", "model": name}).json()
        assert label in [entry["label"] for entry in found]
    assert "single, multi" in refused(both.client.post("/predict", json={"inputs": "x"}), 422)
    assert "single, multi" in refused(both.client.post("/classify", json={"input": "x", "model": "y"}), 404)


def test_info_has_labels_decisions_and_limits(both, single, multi):
    info = both.client.get("/info").json()
    assert info["version"] == sortal.__version__
    assert info["limits"] == {"max_queue": 1024, "max_texts": 128, "max_body_bytes": 2 << 20}
    one, other = info["models"]
    assert (one["name"], one["method"], one["task"], one["labels"]) == (
        "single",
        "tfidf",
        "single",
        ["bad", "good", "odd"],
    )
    assert other["thresholds"] == list(sortal.load(multi).decision.thresholds or ())
    assert one["temperature"] == sortal.load(single).decision.temperature


# what is refused


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 422, "the body must be a JSON object"),
        (b"{", 400, "the body is not JSON"),
        (b"\xff\xfe{}", 400, "the body is not JSON"),
        (b'{"inputs": ' + b"[" * 100_000, 400, "the body is not JSON"),
        (b"null", 422, "the body must be a JSON object"),
        (b"[1]", 422, "the body must be a JSON object"),
        (b"{}", 422, "inputs is missing"),
        (b'{"inputs": null}', 422, "inputs must be a text or a list of texts"),
        (b'{"inputs": ["a", ["b"]]}', 422, "item 2 is not one"),
        (b'{"inputs": "a", "imputs": "b"}', 422, "unknown field 'imputs'"),
        (b'{"inputs": "a", "' + b"k" * 5000 + b'": 1}', 422, "unknown field 'kkk"),
        (b'{"inputs": "a", "truncate": false}', 422, "truncate should be True"),
        (b'{"inputs": "a", "parameters": {"top_k": 0}}', 422, "parameters.top_k should be greater"),
        (b'{"inputs": "a", "parameters": {"top_k": "1"}}', 422, "parameters.top_k should be a valid integer"),
        (b'{"inputs": "a", "parameters": {"top_k": 1.5}}', 422, "parameters.top_k should be a valid integer"),
        (
            b'{"inputs": "a", "parameters": {"top_k": true}}',
            422,
            "parameters.top_k should be a valid integer",
        ),
        (b'{"inputs": "a", "model": 1}', 422, "model should be a valid string"),
    ],
)
def test_a_wrong_body_gets_one_sentence(one, body, status, sentence):
    response = one.client.post("/predict", content=body, headers={"content-type": "application/json"})
    said = refused(response, status)
    assert sentence in said
    assert len(said) < 200


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_only_json_is_taken(one, kind):
    headers = {} if kind is None else {"content-type": kind}
    response = one.client.post("/predict", content=b'{"inputs": "a"}', headers=headers)
    assert "Content-Type: application/json" in refused(response, 415)
    packed = {"content-type": "application/json; charset=utf-8", "content-encoding": "gzip"}
    assert "compressed" in refused(one.client.post("/predict", content=b"{}", headers=packed), 415)


def test_unknown_paths_and_methods(one):
    refused(one.client.get("/nothing"), 404)
    refused(one.client.post("/nothing", json={}), 404)
    refused(one.client.post("/", json={}), 405)
    response = one.client.get("/predict")
    refused(response, 405)
    assert response.headers["allow"] == "POST"
    for path in ("/docs", "/redoc"):  # pages that load scripts from a public network
        refused(one.client.get(path), 404)


def test_limits_of_size(single):
    with serving(single, max_texts=3, max_body_bytes=200) as served:
        assert served.client.post("/predict", json={"inputs": ["a"] * 3}).status_code == 200
        assert "3 are the most" in refused(served.client.post("/predict", json={"inputs": ["a"] * 4}), 413)
        assert "200 bytes" in refused(served.client.post("/predict", json={"inputs": "a" * 300}), 413)
        chunks = iter([b'{"inputs": "', *[b"a" * 50] * 5, b'"}'])  # no Content-Length
        response = served.client.post(
            "/predict", content=chunks, headers={"content-type": "application/json"}
        )
        assert "200 bytes" in refused(response, 413)
        short = iter([b'{"inputs": "', b"a" * 50, b'"}'])
        response = served.client.post("/predict", content=short, headers={"content-type": "application/json"})
        assert response.status_code == 200


def test_a_full_queue_says_when_to_come_again(single, monkeypatch):
    with serving(single, max_queue=2) as served:
        hold, answers = Hold(monkeypatch), []
        first = asking(served, "a", answers)
        assert hold.entered.wait(PATIENCE)
        response = served.client.post("/predict", json={"inputs": ["b", "c"]})
        assert "too many texts" in refused(response, 429, "overloaded")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        second = asking(served, "d", answers)
        while served.guard.open < 2:  # nothing tells when a request was read
            second.join(0.001)
        response = served.client.post("/predict", json={"inputs": "e"})
        assert "too many requests" in refused(response, 429, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
        assert served.client.get("/ready").status_code == 200
        hold.release()
        for thread in (first, second):
            thread.join(PATIENCE)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert served.client.post("/predict", json={"inputs": ["b", "c"]}).status_code == 200


# readiness, the end


def test_nothing_is_answered_before_the_models_are_loaded(single):
    with serving(single, start=False) as served:
        assert "loaded" in refused(served.client.get("/ready"), 503, "unavailable")
        response = served.client.post("/predict", json={"inputs": "a"})
        assert "loaded" in refused(response, 503, "unavailable")
        assert response.headers["retry-after"] == "1"
        assert served.client.get("/info").json()["models"][0]["method"] == "tfidf"
        assert "sortal_ready 0.0" in served.client.get("/metrics").text
        served.service.start()
        assert served.service.wait(PATIENCE)
        assert served.client.get("/ready").json() == {"status": "ready"}
        assert served.client.post("/predict", json={"inputs": "a"}).status_code == 200
        assert "sortal_ready 1.0" in served.client.get("/metrics").text
        served.service.close(PATIENCE)
        assert "ended" in refused(served.client.get("/health"), 503, "unavailable")


def test_it_is_not_ready_while_its_thread_still_loads(single, monkeypatch):
    load, go = ServedModel.load, threading.Event()

    def slowly(*given: Any) -> ServedModel:
        assert go.wait(PATIENCE)
        return load(*given)

    with serving(single, start=False) as served:
        monkeypatch.setattr(ServedModel, "load", slowly)
        served.service.start()
        assert served.client.get("/health").status_code == 200
        refused(served.client.get("/ready"), 503, "unavailable")
        refused(served.client.post("/predict", json={"inputs": "a"}), 503, "unavailable")
        go.set()
        assert served.service.wait(PATIENCE)
        assert served.client.get("/ready").status_code == 200
        served.service.close(PATIENCE)


def test_a_model_that_cannot_be_loaded_is_the_services_failure(single, monkeypatch):
    def broken(*given: Any) -> ServedModel:
        raise ModelError("its parts do not fit")

    with serving(single, start=False) as served:
        monkeypatch.setattr(ServedModel, "load", broken)
        served.service.start()
        served.service.close(PATIENCE)
        assert isinstance(served.service.failure, ModelError)
        refused(served.client.get("/health"), 503, "unavailable")


def test_what_was_accepted_is_answered_while_the_server_stops_and_nothing_new_is_taken(single, monkeypatch):
    with serving(single) as served:
        hold, answers = Hold(monkeypatch), []
        thread = asking(served, "fine and nice", answers)
        assert hold.entered.wait(PATIENCE)
        served.service.draining = True
        response = served.client.post("/predict", json={"inputs": "a"})
        assert "stopping" in refused(response, 503, "unavailable")
        assert (response.headers["retry-after"], response.headers["connection"]) == ("1", "close")
        assert "stopping" in refused(served.client.get("/ready"), 503, "unavailable")
        assert served.client.get("/health").json() == {"status": "ok"}
        assert (served.guard.accepted, served.guard.open) == (1, 1)
        hold.release()
        thread.join(PATIENCE)
        assert answers[0].status_code == 200
        assert answers[0].headers["connection"] == "close"
        assert (served.guard.accepted, served.guard.open) == (1, 0)


def test_concurrent_clients_get_their_own_answers(single):
    classifier = sortal.load(single)
    texts = [f"{word} {i}" for i in range(40) for word in ("fine", "poor", "strange")]
    expected = dict(zip(texts, classifier.predict_proba(texts).tolist(), strict=True))
    wrong: list[str] = []
    with serving(single) as served:

        def ask(mine: list[str]) -> None:
            for text in mine:
                probs = served.client.post("/classify", json={"input": text}).json()["data"][0]["probs"]
                if probs != pytest.approx(expected[text], abs=1e-6):
                    wrong.append(text)

        threads = [threading.Thread(target=ask, args=(texts[i::6],)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert wrong == []


def test_the_openapi_document_describes_every_path_and_refusal(one):
    document = one.client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/predict", "/classify", "/explain"),
        *("/health", "/ready", "/info", "/metrics", "/report"),
    }
    for path in ("/predict", "/classify", "/explain"):
        replies = document["paths"][path]["post"]["responses"]
        assert {"200", "400", "404", "408", "413", "415", "422", "429", "500", "503"} <= set(replies)
        assert all("Problem" in str(reply) for status, reply in replies.items() if status != "200")
        assert "security" not in document["paths"][path]["post"]
