"""Method instruct resumes bit for bit, and two processes end where one ends: F2."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from instruct_runs import (
    FORMS,
    read_json,
)
from integration.test_distributed import check_same, launched
from integration.test_resume import stopped_at
from sortal.cli.main import main

# F2: resuming


CUT = {
    "label": ["shuffle_labels=true", "listed_labels=3"],
    "each": ["negatives=1", "answer=each", "label_delimiter=|"],
    "list": ["shuffle_labels=true", "answer=list", "label_delimiter=|"],
}


def _words(data, base, out, form, *flags, settings=()):
    fixed = ["train", data, "--method", "instruct", "--model", base, "--epochs", 2, "--batch-size", 8]
    values = ["dtype=float32", "threads=1", "learning_rate=0.005", "n_resamples=100", "lora_dropout=0.1"]
    values += ["early_stopping_patience=9", *CUT[form], *settings]
    return [str(word) for word in (*fixed, "--out", out, *flags, "--set", *values)]


@pytest.fixture(scope="module")
def whole(files, bases, tmp_path_factory):
    """``whole(form, *settings)``: the folder of a run that nothing happened to."""
    made = {}

    def run(form, *settings):
        if (key := (form, *settings)) not in made:
            made[key] = tmp_path_factory.mktemp("whole") / "run"
            assert main(_words(files[form], bases["llama"], made[key], form, settings=settings)) == 0
        return made[key]

    return run


ADAPTER = "model/adapter_model.safetensors"


@pytest.mark.parametrize(
    ("form", "settings"), [*((form, ()) for form in FORMS), ("label", ("shots=2", "shot_choice=nearest"))]
)
def test_f2_an_interrupted_run_goes_on_to_the_same_bits(
    form, settings, files, bases, whole, tmp_path, monkeypatch, capsys
):
    """The step decides what is drawn; the random state of dropout is part of the checkpoint."""
    cut, expected = tmp_path / "cut", whole(form, *settings)
    words = _words(files[form], bases["llama"], cut, form, settings=["save_minutes=0", *settings])
    with monkeypatch.context() as patch:
        stopped_at(8, patch)
        assert main(words) == 130
    capsys.readouterr()
    assert main([*words[:-1], words[-1], "--resume"]) == 0
    assert "resuming at step 7 of 10" in capsys.readouterr().err
    assert (cut / ADAPTER).read_bytes() == (expected / ADAPTER).read_bytes()
    assert (cut / "metrics.json").read_text() == (expected / "metrics.json").read_text()
    assert pq.read_table(cut / "predictions.parquet") == pq.read_table(expected / "predictions.parquet")
    ours, theirs = read_json(cut / "run.json")["training"], read_json(expected / "run.json")["training"]
    for key in ("history", "tokens", "best_step", "template_hash"):
        assert ours[key] == theirs[key]


@pytest.mark.parametrize("form", ["label", "each"])
def test_the_draws_of_a_step_do_change_what_is_learnt(form, files, bases, whole, tmp_path):
    """So that the cases above would notice a draw that resuming forgets."""
    off = {"label": ["shuffle_labels=false", "listed_labels=null"], "each": ["negatives=16"]}[form]
    assert main(_words(files[form], bases["llama"], tmp_path / "off", form, settings=off)) == 0
    assert (tmp_path / "off" / ADAPTER).read_bytes() != (whole(form) / ADAPTER).read_bytes()


# several processes


@pytest.mark.parametrize("form", ["label", "list"])
def test_two_processes_end_where_one_ends(form, files, bases, tmp_path):
    more = ("lora_dropout=0", "max_tokens=150")  # a small budget gives them different numbers of microbatches
    assert main(_words(files[form], bases["llama"], tmp_path / "one", form, settings=more)) == 0
    both = launched(_words(files[form], bases["llama"], "two", form, settings=more), tmp_path)
    assert [command.wait() for command in both] == [0, 0], both[0].stderr + both[1].stderr
    check_same(tmp_path / "two", tmp_path / "one")
    ours, theirs = (read_json(tmp_path / run / "run.json")["training"] for run in ("two", "one"))
    for key in ("steps", "template_hash", *(["stop_bias"] if form == "list" else [])):
        assert ours[key] == theirs[key]
