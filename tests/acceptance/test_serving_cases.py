"""Served answers are those of ``sortal predict`` for every method; and V3: keys, addresses, bodies."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

import sortal
from instruct_runs import LABELS, TOPICS
from served import serving
from sortal.cli.main import main
from sortal.serving.keys import Keys
from sortal.serving.shapes import ClassifyReply, Label
from tiny_runs import HARD_TEXTS, rows, write_csv

TEXTS = [
    *HARD_TEXTS,
    *(text for text, _ in rows(20, LABELS)),
    *(text for text, _ in TOPICS),
    "long " * 200,
]
KINDS = (
    *(
        "head",
        "head, abstaining",
        "head, blended",
        "head, bf16",
        "head, multi",
        "probe",
        "encoder",
        "encoder, multi",
    ),
    *("instruct, label", "instruct, each", "instruct, list"),
    *("tfidf", "tfidf, abstaining", "tfidf, multi", "majority", "majority, multi"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_sortal_predict(kind, made, tmp_path, capsys):
    """V2, S10: every method, with its probabilities, thresholds and abstention; in batches, in parts and alone."""
    model = made(kind)
    table = write_csv(tmp_path / "texts.csv", [[text] for text in TEXTS], ["text"])
    assert main(["predict", str(model), str(table), "--out", str(tmp_path / "p.jsonl")]) == 0
    expected = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    close = 2e-2 if kind.endswith("bf16") else 2e-6  # predict writes six digits
    with serving(model, max_batch_tokens=300) as served:
        together = served.client.post("/predict", json={"inputs": TEXTS}).json()
        alone = [served.client.post("/predict", json={"inputs": text}).json() for text in TEXTS]
        reply = served.client.post("/classify", json={"input": TEXTS}).json()
    names, decided = sortal.load(model).classes_, []
    for line, one, other, row in zip(expected, together, alone, reply["data"], strict=True):
        TypeAdapter(list[Label]).validate_python(one)
        labels = line.get("labels", [line["label"]] if line.get("label") is not None else [])
        decided.append(tuple(labels))
        for answer in (one, other):
            assert {label["label"]: label["score"] for label in answer} == pytest.approx(
                line["probabilities"], abs=close
            )
            if close < 1e-3:  # in bf16 a text beside a threshold may fall to either side
                assert {label["label"] for label in answer if label["predicted"]} == set(labels)
        assert dict(zip(names, row["probs"], strict=True)) == pytest.approx(line["probabilities"], abs=close)
        if close < 1e-3:
            assert row["labels"] == labels
            assert row["label"] == (max(labels, key=line["probabilities"].__getitem__) if labels else None)
    ClassifyReply.model_validate(reply)
    reads_tokens = kind.split(",")[0] not in ("tfidf", "majority")
    assert (reply["usage"]["prompt_tokens"] > len(TEXTS)) is reads_tokens
    if "abstaining" in kind:
        assert () in decided, "no text made it abstain: the case tests nothing"


def test_v3_keys_addresses_and_bodies(made, tmp_path):
    """V3: 401 without a right key, which no log holds; the body's limit; other addresses refused without a key."""
    (tmp_path / "keys").write_text("the-only-key-there-is\n")
    keys = Keys.read(str(tmp_path / "keys"))
    with serving(made("tfidf"), keys=keys, max_body_bytes=100) as served:
        asked = {"inputs": "a"}
        right = {"Authorization": "Bearer the-only-key-there-is"}
        assert served.client.post("/predict", json=asked).status_code == 401
        wrong = {"Authorization": "Bearer the-only-key-there-was"}
        assert served.client.post("/predict", json=asked, headers=wrong).status_code == 401
        assert served.client.post("/predict", json=asked, headers=right).status_code == 200
        large = {"inputs": "a" * 200}
        assert served.client.post("/predict", json=large).status_code == 401
        assert served.client.post("/predict", json=large, headers=right).status_code == 413
        assert "the-only-key" not in served.written.getvalue()
    assert main(["serve", str(made("tfidf")), "--host", "0.0.0.0"]) == 2
