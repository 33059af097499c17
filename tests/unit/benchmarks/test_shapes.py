"""Shapes of the speed benchmark: one network per side and group, the same weights and start, results after every case."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks.speed import shapes
from benchmarks.speed.case import Case, read_rows
from benchmarks.speed.sets import save_config, shape_case
from benchmarks.speed.train import hf_network, sortal_network
from benchmarks.speed.weights import made_on
from benchmarks.speed.words import memory


def asked(work, **more):
    given = {
        "work": work, "device": "cpu", "shapes": ["tiny"], "quantizations": ["none"], "lengths": [32, 16], "small_card": 32,
        "steps": 1, "batch_size": 4, "dtype": "float32", "learning_rate": 1e-2, "repeats": 1, "seconds": None,
    }  # fmt: skip
    return SimpleNamespace(**given | more)


def test_both_sides_are_made_of_the_same_weights_without_a_file(tmp_path):
    base = save_config("tiny", tmp_path / "tiny")
    folder = shape_case(base, "tiny", 16, "none", tmp_path / "case", batch_size=4, steps=2, dtype="float32")
    with made_on("cpu"):
        ours, theirs = sortal_network(Case.read(folder)), hf_network(Case.read(folder))
    assert not list(base.glob("*.safetensors"))
    mine = dict(ours.inner.named_parameters())
    for name, weight in theirs.get_base_model().named_parameters():
        if "lora" not in name and "score" not in name:
            assert torch.equal(weight, mine[name]), name
    assert mine["model.layers.1.mlp.down_proj.base_layer.weight"].std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_every_case_is_written_when_it_is_done_and_taken_once(tmp_path, quantization, capsys):
    if quantization == "nf4":
        pytest.importorskip("bitsandbytes")
    pages = []
    arguments = asked(tmp_path, quantizations=[quantization])
    shapes.run(shapes.groups(arguments), arguments, pages.append)
    taken = [sum(len(turns) for turns in one["turns"].values()) for one in pages[-1]["training"]]
    assert taken == ([2, 1, 2] if quantization == "nf4" else [2, 2]), "in 4 bits Sortal on a small card, too"
    assert len(pages) == sum(taken)
    for one in pages[-1]["training"]:
        sides = one["turns"]
        ours = sides["sortal"][0]
        assert ours["planned_peak_bytes"] > 0
        assert ours["largest_microbatch"] <= max(ours["tokens"])
        if "hf" in sides:
            assert np.allclose(ours["losses"], sides["hf"][0]["losses"], atol=2e-2)
            assert ours["tokens"] == sides["hf"][0]["tokens"]
    again = []
    shapes.run(shapes.groups(arguments), arguments, again.append)
    assert not again
    assert "real tokens/s" in capsys.readouterr().out


def test_a_side_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    def fails(case):
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setitem(shapes.SIDES, "hf", (fails, shapes.of_hf))
    pages = []
    arguments = asked(tmp_path, lengths=[16])
    shapes.run(shapes.groups(arguments), arguments, pages.append)
    (one,) = pages[-1]["training"]
    assert one["failed"] == {"hf": "RuntimeError: out of memory"}
    assert len(one["turns"]["sortal"]) == 1


def test_the_peer_takes_fewer_rows_at_once_where_memory_ends(tmp_path, monkeypatch):
    taken = []

    def steps(case, folder, model):
        taken.append(case.peer_rows)
        if case.peer_rows > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"losses": []}

    monkeypatch.setattr(shapes, "hf_steps", steps)
    base = save_config("tiny", tmp_path / "tiny")
    folder = shape_case(base, "tiny", 16, "none", tmp_path / "case", batch_size=4, steps=2)
    found = shapes.of_hf(None)(Case.read(folder), folder)
    assert taken == [4, 2, 1]
    assert found["peer_rows"] == 1
    assert found["computed"] == found["tokens"], "nothing is padded"


def test_nothing_begins_when_the_time_is_used_up(tmp_path):
    pages = []
    arguments = asked(tmp_path, seconds=0.01)
    shapes.run(shapes.groups(arguments), arguments, pages.append)
    assert not pages


def test_a_smaller_card_is_a_limit_for_one_case_alone(tmp_path, monkeypatch):
    shares, resets = [], []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: resets.append(1))
    base = save_config("tiny", tmp_path / "tiny")
    settings = {"batch_size": 4, "steps": 2, "device": "cuda", "memory": 8_000_000_000, "max_tokens": 2048}
    case = Case.read(shape_case(base, "tiny", 16, "none", tmp_path / "case", **settings))
    with shapes.card(case):
        assert shares == [pytest.approx(7.4 / 80)]
        assert resets
    assert shares[1:] == [1.0]


def test_the_step_that_warms_up_is_the_largest(tmp_path):
    base = save_config("tiny", tmp_path / "tiny")
    folder = shape_case(base, "tiny", 64, "none", tmp_path / "case", batch_size=4, steps=6)
    tokens = shapes.counted(Case.read(folder), folder, "sortal")["tokens"]
    assert tokens[0] == max(tokens)
    assert tokens[1:] != sorted(tokens[1:], reverse=True), "sizes come again as they do in training"
    assert max(read_rows(folder)[0].lengths) == 64


def test_measured_memory_stands_beside_the_estimates():
    turn = {
        "planned_peak_bytes": 8_000_000_000, "estimated_peak_bytes": 8_100_000_000, "peak_memory_bytes": 7_600_000_000,
        "reserved_memory_bytes": 9_000_000_000, "max_tokens": 2048, "largest_microbatch": 2000, "checkpointing": True,
    }  # fmt: skip
    shown = memory([{"case": {"name": "8b"}, "turns": {"sortal": [json.loads(json.dumps(turn))]}}])
    assert "| 8b | 2,048 | 2,000 | yes | 8.00 GB | 8.10 GB | 7.60 GB | 9.00 GB | 0.95 |" in shown
    del turn["reserved_memory_bytes"]  # a CPU counts other things
    assert memory([{"case": {"name": "8b"}, "turns": {"sortal": [turn]}}]) == []
