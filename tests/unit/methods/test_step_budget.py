from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from sortal.methods import step_budget
from sortal.training.budget import choose_budget
from sortal.training.step_memory import StepMemory
from tiny_runs import fit, rows, write_csv

PLAIN, SMALL = StepMemory((0.0, 1000.0, 0.0, 0.0, 0.0)), StepMemory((0.0, 100.0, 0.0, 0.0, 0.0))


def choose(free, **settings):
    given = {"ceiling": 4096, "longest": 100} | settings
    tokens, memory = choose_budget(PLAIN, lambda: SMALL, free=free, **given)
    return tokens, memory is SMALL


def test_layers_are_computed_twice_only_where_a_useful_microbatch_would_not_fit():
    assert choose(10_000_000) == (4096, False), "the ceiling"
    assert choose(2_000_000) == (1800, False), "a tenth stays free"
    assert choose(1_000_000) == (4096, True)
    assert choose(100_000) == (900, True)
    assert choose(10) == (256, True), "at least so many, and then memory decides"


def test_one_text_has_to_fit():
    assert choose(2_000_000, longest=1900) == (4096, True)


def test_what_the_user_wants_is_done():
    assert choose(2_000_000, asked=1700) == (1700, False)
    assert choose(2_000_000, asked=1900) == (1900, True)
    assert choose(2_000_000, asked=1900, checkpointing=False) == (1900, False)
    assert choose(10_000_000, checkpointing=True) == (4096, True)


def test_a_prompt_is_part_of_a_microbatch():
    assert choose(2_000_000, prompt=500) == (1800, False)
    assert choose(2_000_000, prompt=500, asked=1700) == (1700, False)


@pytest.mark.parametrize("method", ["head", "instruct", "encoder"])
def test_a_run_with_checkpointing_ends_where_one_without_does(tmp_path, tiny, tiny_encoders, method):
    data = write_csv(tmp_path / "d.csv", rows(60))
    model = tiny_encoders["sentence"] if method == "encoder" else tiny
    found = {}
    for wanted in ("never", "always"):
        out = tmp_path / wanted
        fit(data, model, out, method=method, gradient_checkpointing=wanted)
        training = json.loads((out / "run.json").read_text())["training"]
        assert training["gradient_checkpointing"] == (wanted == "always")
        found[wanted] = pq.read_table(out / "predictions.parquet").to_pandas().select_dtypes("number")
    np.testing.assert_allclose(found["always"], found["never"], atol=1e-4)


def test_a_run_says_what_it_will_take_and_keeps_the_estimate(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(step_budget, "_SMALL", 0)
    data, said = write_csv(tmp_path / "d.csv", rows(60)), []
    result = fit(data, tiny, tmp_path / "run", said=said)
    (line,) = [line for line in said if line.startswith("estimated peak memory ")]
    lengths = next(line for line in said if "training texts, " in line)
    longest = int(lengths.split("max ")[1].split(")")[0])
    largest = int(line.split("of ")[1].split(" tokens where ")[0].replace(",", ""))
    assert longest < largest < 8 * longest < 2048, (
        "of the run's own steps of 8 texts, and not all that is allowed"
    )
    training = result.record["training"]
    assert 0.5 < training["estimated_peak_bytes"] / training["peak_memory_bytes"] < 1.5


def test_a_network_that_cannot_be_rehearsed_is_tuned_all_the_same(tmp_path, tiny, monkeypatch):
    def fails(*arguments, **settings):
        raise NotImplementedError

    monkeypatch.setattr(step_budget, "_SMALL", 0)
    monkeypatch.setattr(step_budget.Network, "step", fails)
    data, said = write_csv(tmp_path / "d.csv", rows(60)), []
    fit(data, tiny, tmp_path / "run", said=said)
    assert "no estimate of the memory: NotImplementedError in a rehearsal of HeadModel" in said
