"""Several models in one server: each answers what it answers alone, and what they have in common is held once."""

from __future__ import annotations

import json

import pytest

from instruct_runs import LABELS
from served import serving
from tiny_runs import HARD_TEXTS, fit, rows

TEXTS = [*HARD_TEXTS, *(text for text, _ in rows(12, LABELS)), "long " * 200]
KINDS = (
    *("head", "head, multi", "head, blended", "probe", "instruct, label", "instruct, each"),
    *("head, bf16", "encoder", "tfidf"),
)


@pytest.fixture(scope="module")
def folders(made, one_label, tiny_models, tmp_path_factory):
    """Models of every kind, and two heads more: one on another template, one cut at its first layer."""
    out = tmp_path_factory.mktemp("more")
    more = {"plain": {"template": "eos"}, "short": {"keep_layers": 1}}
    for name, settings in more.items():
        fit(one_label, tiny_models["llama"], out / name, **settings)
    return {kind.replace(", ", "-"): made(kind) for kind in KINDS} | {
        name: out / name / "model" for name in more
    }


def answers(served, name):
    """Replies to texts alone, as a client sees them, and to all in one batch: to the last digit."""
    alone = [served.client.post("/predict", json={"inputs": text, "model": name}).text for text in HARD_TEXTS]
    # Not by HTTP: how many texts go into a batch depends on what was asked before, and last digits on the batch.
    batch = served.service.models[name].answer(TEXTS)
    return alone, [(one.probabilities.tolist(), one.labels, one.tokens) for one in batch]


def assert_same(found, expected, tolerance):
    """Equal answers: the same labels, and probabilities that differ by rounding, as adapters stay beside weights that are shared."""
    (texts, batch), (texts_alone, batch_alone) = found, expected
    for one, other in zip(map(json.loads, texts), map(json.loads, texts_alone), strict=True):
        mine, theirs = ({each["label"]: each["score"] for each in reply} for reply in (one, other))
        assert mine == pytest.approx(theirs, abs=tolerance)
    for mine, theirs in zip(batch, batch_alone, strict=True):
        assert mine[1:] == theirs[1:]
        assert mine[0] == pytest.approx(theirs[0], abs=tolerance)


def frozen(model):
    """The pretrained weights of a served model by identity: no adapters, no score."""
    scorer = model.classifier.scorer
    network = getattr(scorer, "tuned", scorer).model
    named = (network.base if hasattr(network, "base") else network).named_parameters()
    return {id(p): p for name, p in named if "lora_" not in name and "score." not in name}


def test_models_on_one_base_answer_what_they_answer_alone_and_hold_it_once(folders):
    alone = {}
    for name, folder in folders.items():
        with serving({name: folder}) as served:
            alone[name] = answers(served, name)
    with serving(folders) as served:
        together = {name: answers(served, name) for name in folders}
        for name in folders:
            assert_same(together[name], alone[name], 5e-2 if name == "head-bf16" else 1e-5)
        # What one has answered changes nothing for the others.
        assert {name: answers(served, name) for name in folders} == together
        models = served.service.models
        held = {name: frozen(models[name]).keys() for name in folders if name != "tfidf"}
    whole = held["head"]
    assert held["head-multi"] == held["head-blended"] == held["plain"] == whole
    assert held["instruct-label"] == held["instruct-each"] > whole  # and an output layer, held once
    assert held["short"] < whole
    assert held["probe"] <= whole
    assert not (held["head-bf16"] | held["encoder"]) & whole
