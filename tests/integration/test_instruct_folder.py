"""A saved instruct folder in plain transformers and peft, by the very lines the documentation gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from instruct_runs import save_chat_model
from tiny_runs import HARD_TEXTS, fit, rows, write_csv

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "instruct-with-transformers.md"
# Two labels begin with another one: what is likeliest first need not be likeliest in the end.
LABELS = ("pa", "p", "ma", "m", "é")
ROWS = [(f"{'vwxyz'[i % 5] * 16} {i}", LABELS[i % 5]) for i in range(60)]
TEXTS = [*HARD_TEXTS, *(text for text, _ in ROWS)][:30]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("instruct")
    settings = {"max_length": None, "epochs": 6, "learning_rate": 1e-2, "lora_r": 16, "lora_alpha": 32}
    settings |= {"batch_size": 4, "early_stopping_patience": 9}
    result = fit(write_csv(folder / "data.csv", ROWS), tiny, folder / "run", method="instruct", **settings)
    classifier = result.classifier
    return SimpleNamespace(
        classifier=classifier, scorer=classifier.scorer, model=folder / "run" / "model", base=tiny
    )


def run_page(model, base):
    """The names that the page's code block defines, run on a folder."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code.count("runs/mine/model") == 1
    names = {"base": str(base)}
    exec(compile(code.replace("runs/mine/model", str(model)), PAGE.name, "exec"), names)
    return SimpleNamespace(**names)


@pytest.fixture(scope="module")
def documented(trained):
    return run_page(trained.model, trained.base)


def check_ids(classifier, documented, monkeypatch):
    prompt, read = classifier.scorer.prompt, []
    monkeypatch.setattr(documented.model, "generate", lambda ids, **more: read.append(ids) or _Stop.now())
    trunks = classifier.scorer.trunks(TEXTS)
    for i, text in enumerate(TEXTS):
        with pytest.raises(_Stop):
            documented.classify(text)
        assert read[i][0].tolist() == [*trunks.shared.tolist(), *trunks[i].tolist()]
    assert documented.answers == [[*answer, prompt.terminator] for answer in prompt.answers]
    assert documented.saved["labels"] == list(classifier.classes_)


def test_the_documented_prompt_and_answers_are_the_ids_sortal_reads(trained, documented, monkeypatch):
    check_ids(trained.classifier, documented, monkeypatch)


@pytest.mark.parametrize("prompt_format", ["plain", "chat"])
def test_the_documented_ids_hold_for_merges_first_tokens_and_chat_formats(
    prompt_format, tmp_path, monkeypatch
):
    base = save_chat_model(tmp_path / "base")
    data = write_csv(tmp_path / "data.csv", rows(40, ("good enough", "odd", "x_y")))
    settings = {"method": "instruct", "max_length": None, "epochs": 0, "prompt_format": prompt_format}
    result = fit(data, base, tmp_path / "run", **settings)
    documented = run_page(tmp_path / "run" / "model", base)
    check_ids(result.classifier, documented, monkeypatch)
    assert documented.before[:2].count(1) == 1, "the first token stands there once"


class _Stop(Exception):  # noqa: N818 - not an error
    @classmethod
    def now(cls):
        raise cls


def test_constrained_generate_gives_the_labels_sortal_gives(trained, documented):
    """On texts in any script, empty, and with the texts of special tokens in them."""
    found = [documented.classify(text) for text in TEXTS]
    assert found == trained.classifier.predict(TEXTS)
    assert {"p", "pa", "m", "ma"} <= set(found), "a label wins, and so do those that it begins"


def test_greedy_decoding_is_no_substitute(trained, documented, monkeypatch):
    """What the page says about it, and why the number of beams in its code matters."""
    generate = documented.model.generate
    monkeypatch.setattr(
        documented.model, "generate", lambda ids, **more: generate(ids, **{**more, "num_beams": 1})
    )
    found = [documented.classify(text) for text in TEXTS]
    assert found != trained.classifier.predict(TEXTS)
    assert set(found) <= set(LABELS)


def test_the_winning_beam_has_the_log_probability_of_the_best_label(trained, documented, monkeypatch):
    """So many beams as labels leave none out: the score of the one that wins is the largest of all."""
    generate, scores = documented.model.generate, []

    def scored(ids, **more):
        out = generate(ids, **more, return_dict_in_generate=True, output_scores=True)
        scores.append(float(out.sequences_scores[0]))
        return out.sequences

    monkeypatch.setattr(documented.model, "generate", scored)
    for text in TEXTS:
        documented.classify(text)
    ours = trained.scorer.score(TEXTS)
    np.testing.assert_allclose(scores, ours.max(1), rtol=1e-4)
    best, second = np.sort(ours, axis=1)[:, ::-1][:, :2].T
    assert (best - second > 1e-2).all(), "no text is a tie, so equal labels mean something"


def test_the_folder_is_a_causal_adapter_of_peft(trained):
    from safetensors import safe_open

    config = json.loads((trained.model / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["task_type"]) == ("LORA", "CAUSAL_LM")
    assert not config["modules_to_save"]
    with safe_open(trained.model / "adapter_model.safetensors", framework="pt") as file:
        keys = list(file.keys())
    assert len(keys) == 2 * 2 * 7
    assert all("lora_" in key for key in keys)
    meta = json.loads((trained.model / "sortal.json").read_text(encoding="utf-8"))
    assert set(meta["prompt"]) == {"form", "text", "answers", "listed", "shots", "hash"}
    settings = json.loads((trained.model / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in settings
    assert settings["pad_token_id"] is not None


def test_the_tokenizer_pads_on_the_left_for_whoever_generates(trained):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained.model)
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
