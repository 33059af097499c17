"""The speed benchmark measures equal work: both sides' losses are one another's, and its pages say what was found."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.scaling import page as scaling_page
from benchmarks.scaling import write_rows
from benchmarks.speed.__main__ import with_earlier
from benchmarks.speed.case import Case, read_rows
from benchmarks.speed.children import Children
from benchmarks.speed.profile import table
from benchmarks.speed.sets import drawn_lengths, prepare, save_shape, shape_case, text_case
from benchmarks.speed.train import hf, sortal
from benchmarks.speed.words import page, training_row


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_shape("tiny", tmp_path_factory.mktemp("shapes") / "tiny", "float32")


@pytest.mark.parametrize("task", ["single", "multi"])
def test_both_sides_take_the_same_steps_from_the_same_start(base, tmp_path, task):
    folder = shape_case(
        base,
        "tiny",
        32,
        "none",
        tmp_path / "case",
        batch_size=8,
        steps=4,
        dtype="float32",
        learning_rate=1e-2,
    )
    case = replace(Case.read(folder), task=task, peer_rows=4)  # the peer's steps in two forwards each
    texts, gold = read_rows(folder)
    targets = (
        gold
        if task == "single"
        else np.eye(case.labels, dtype=np.int64)[gold] | np.eye(case.labels, dtype=np.int64)[0]
    )
    case.write(folder, texts, targets)
    ours, theirs = sortal(case, folder), hf(case, folder)
    assert (
        len(ours["seconds"])
        == len(theirs["seconds"])
        == len(ours["cpu_seconds"])
        == len(theirs["cpu_seconds"])
        == 4
    )
    assert np.allclose(ours["losses"], theirs["losses"], atol=1e-3)
    frozen = sortal(replace(case, learning_rate=1e-9), folder)
    assert frozen["losses"][0] == ours["losses"][0]
    assert abs(frozen["losses"][-1] - ours["losses"][-1]) > 2e-3, "they learn: equal losses are no accident"
    assert ours["linear_weights"] == 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)


def test_a_case_is_the_same_every_time_and_needs_rows_for_all_steps(base, tmp_path):
    first, second = (
        shape_case(base, "tiny", 64, "none", tmp_path / name, batch_size=4, steps=3) for name in "ab"
    )
    (one, gold), (two, again) = read_rows(first), read_rows(second)
    assert np.array_equal(one.flat, two.flat)
    assert np.array_equal(gold, again)
    assert sorted(Case.read(first).order()) == list(range(12))
    with pytest.raises(ValueError, match="3 steps of 5 rows need 15, not 12"):
        replace(Case.read(first), batch_size=5).write(tmp_path / "c", one, gold)


def test_lengths_follow_what_is_declared():
    drawn = drawn_lengths(512, 20_000)
    assert np.median(drawn) == pytest.approx(128, rel=0.05)
    assert drawn.min() >= 4
    assert drawn.max() == 512
    assert np.array_equal(drawn[:10], drawn_lengths(512, 10))


@pytest.mark.parametrize(("name", "labels"), [("banking77", 77), ("reuters21578", 90)])
def test_public_rows_are_read_as_sortal_reads_them(data_root, tiny, tmp_path, name, labels):
    rows = prepare(name, data_root, tmp_path / "rows", 8, 16)
    assert len(rows.labels) >= labels
    assert (len(rows.train), len(rows.test)) == (8, 16)
    folder = text_case(name, rows, str(tiny), "eos", tmp_path / "case", batch_size=4, steps=2)
    texts, gold = read_rows(folder)
    assert len(texts) == 8
    assert all(len(ids) <= 256 and ids[-1] == 0 for ids in texts)  # the tiny tokenizer's end of sequence
    given = [
        json.loads(line)["labels"] for line in (tmp_path / "rows" / "data.jsonl").read_text().splitlines()[:8]
    ]
    found = [rows.labels[g] if g.ndim == 0 else {rows.labels[i] for i in np.flatnonzero(g)} for g in gold]
    assert found == [label if isinstance(label, str) else set(label) for label in given]


def test_a_turn_is_measured_once_and_its_failure_told(tmp_path):
    children, kept = Children(1, None), tmp_path / "turn.json"
    code = "import os, json; print('chatter'); print(json.dumps({'threads': os.environ['OMP_NUM_THREADS'], 'pid': os.getpid()}))"
    first = children.once(kept, ["-c", code])
    assert first["threads"] == "1"
    assert children.once(kept, ["-c", code]) == first
    with pytest.raises(RuntimeError, match="no memory left"):
        children.once(tmp_path / "other.json", ["-c", "raise SystemExit('no memory left')"])
    assert not (tmp_path / "other.json").exists()


def turn(seconds, losses, peak):
    return {
        "seconds": seconds,
        "cpu_seconds": seconds,
        "losses": losses,
        "tokens": [90, 100, 110],
        "computed": [90, 200, 220],
        "peak_memory_bytes": peak,
    }


def test_the_page_compares_the_same_steps_and_leaves_out_the_first():
    ours = {**turn([9.0, 1.0, 2.0], [3.0, 2.0, 1.0], 1e9), "linear_weights": 10**9}
    case = {"name": "set", "template": "eos", "batch_size": 30}
    found = {
        "made": {half: {"command": "python -m benchmarks.speed", "threads": 2} for half in ("training", "inference")},
        "peak": [{"flops": 1e12}],
        "training": [
            {"case": case, "turns": {"sortal": [ours], "hf": [turn([1.0, 5.0, 12.0], [3.0, 2.0, 1.004], 2e9)]}, "failed": {}},
            {"case": {**case, "name": "large"}, "turns": {"sortal": [ours], "hf": []}, "failed": {"hf": "out of memory"}},
        ],
        "inference": [
            {
                "set": "set", "texts": 10, "equal_labels": {"sortal": 9}, "short_run": False, "peak": [{"flops": 1e12}],
                "slices": {"sortal": [1.0, 2.0], "pipeline": [5.0, 8.0]},
                "turns": {
                    "sortal": [{"seconds": 2.0, "cpu_seconds": 1.0, "one_text_seconds": 0.1, "one_text_cpu_seconds": 0.08, "peak_memory_bytes": 1e9, "tokens": 300, "linear_weights": 10**9}],
                    "pipeline": [{"seconds": 9.0, "cpu_seconds": 8.0, "one_text_seconds": 0.2, "one_text_cpu_seconds": 0.2, "peak_memory_bytes": 2e9, "tokens": 300, "linear_weights": 0}],
                },
            }
        ],
    }  # fmt: skip
    found["instruct"] = {
        "training": {
            "examples_per_step": 8,
            "ratio": 12.3,
            "ratio_range": [11.4, 13.3],
            "largest_loss_difference": 0.0151,
        }
    }
    shown = page(found)
    assert "`python -m benchmarks.speed`, 2 threads. Absolute" in shown
    assert "12.3 (11.4 – 13.3) times the examples per second" in shown
    # 105 tokens in 1.5 s on average, of 4 · 10⁹ operations each at 10¹² a second: 28 %
    assert (
        "| set | Sortal | text + EOS | 105 | 210 | 9.00 (1) | 1.50 | 70 | 20.0 | 28 % | 1.00 GB | 0.0040 | 5.5 (5.0 – 6.0) |"
        in shown
    )
    later = {**case, "warmup": 2}
    assert training_row(
        {"case": later, "turns": {"sortal": [ours]}, "failed": {}}, "sortal", 1e12
    ).startswith("| set | Sortal | text + EOS | 110 | 220 | 10.00 (2) | 2.00 | 55 |")
    # thirteen seconds against three; five and four times
    assert "set, both sides in one process, 2 slices" in shown
    assert "all together 4.3 times the texts of the pipeline, slice by slice 4.5 (4.0 – 5.0)." in shown
    assert "| large | transformers + peft + Trainer | text + EOS | out of memory |" in shown
    # 300 tokens in 2 s, of 2 · 10⁹ operations each: 30 %
    assert (
        "| set | Sortal | 5.0 | 30.0 | 30 % | 100 | 80 | 1.00 GB | 9 of 10 | 4.5 (4.5 – 4.5) | 8.0 (8.0 – 8.0) |"
        in shown
    )
    assert "| set | pipeline, batches of 32 | 1.1 | 30.0 | 7 % | 200 | 200 | 2.00 GB |" in shown


def test_halves_that_were_measured_apart_each_name_their_command():
    made = {half: {"command": f"measure {half}", "threads": 1} for half in ("training", "inference")}
    shown = page({"made": made, "training": [], "inference": []})
    assert "Training: `measure training`, 1 threads. Inference: `measure inference`, 1 threads. " in shown


def test_the_profile_names_the_operators_with_their_own_time():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(6):
            torch.randn(200, 200) @ torch.randn(200, 200)
    shown = table(profiler.key_averages(), 2, cuda=False)
    rows = {line.split("`")[1]: line for line in shown.splitlines() if "`" in line}
    assert "| 3 |" in rows["aten::mm"]  # six calls in two steps
    shares = [float(line.split("|")[2].strip(" %")) for line in shown.splitlines() if "%" in line]
    assert sum(shares) == pytest.approx(100, abs=1.5)


def test_rows_of_the_scaling_benchmark_are_different_and_its_page_takes_the_start_up_off(tmp_path):
    lines = write_rows(tmp_path / "rows.jsonl", 300).read_text().splitlines()
    assert len(set(lines)) == 300
    assert len({json.loads(line)["label"] for line in lines}) == 10
    used = [{"cpu": cpu, "wall": cpu, "peak_memory_bytes": 3e8} for cpu in (5.0, 6.0)]
    found = {
        "commands": dict.fromkeys(("rows", "labels", "processes"), "python -m benchmarks.scaling"),
        "threads": 1, "cores": 2,
        "rows": [{"rows": n, "train": one, "predict": one} for n, one in zip((200, 1200), used, strict=True)],
        "labels": [{"labels": 10, "cpu_seconds_per_step": 0.02, "peak_memory_bytes": 4e8}],
        "processes": [
            {"processes": n, "tokens_per_second": rate, "wall": 12.0} for n, rate in ((1, 4321.0), (2, 8642.0))
        ],
    }  # fmt: skip
    shown = scaling_page(found)
    assert "| 1,200 | 1.00 | 300 MB | 1.00 | 300 MB |" in shown
    assert "| 10 | 20 | 400 MB |" in shown
    assert "| 2 | 8,642 | 2.00 | 12 |" in shown


def test_cases_that_are_not_measured_again_stay_on_the_page():
    def one(name, flops):
        return {
            "case": {"name": name, "template": "eos", "batch_size": 30},
            "turns": {"sortal": [turn([9.0, 1.0, 2.0], [3.0, 2.0, 1.0], flops)]},
            "failed": {},
        }

    first = with_earlier(
        {"training": []},
        {"training": [one("8b, nf4, up to 512 tokens", 1e9), one("8b, none, up to 512 tokens", 1e9)], "peak": [{"flops": 1e12}]},
        {"command": "first", "threads": 2},
    )  # fmt: skip
    both = with_earlier(
        json.loads(json.dumps(first)),
        {"training": [one("1b, nf4, up to 512 tokens", 2e9), one("8b, nf4, up to 512 tokens", 2e9)], "peak": [{"flops": 3e12}]},
        {"command": "second", "threads": 4},
    )  # fmt: skip
    assert [(found["case"]["name"][:8], found["made"]["command"]) for found in both["training"]] == [
        ("1b, nf4,", "second"), ("8b, nf4,", "second"), ("8b, none", "first"),
    ]  # fmt: skip
    shown = page(both)
    assert "1b, nf4; 8b, nf4: `second`, 4 threads. 8b, none: `first`, 2 threads." in shown
    assert "2,000 GFLOP/s" in shown
    assert shown.count("2.00 GB") == 2
    assert shown.count("1.00 GB") == 1
