"""``sortal doctor``: facts for people and for programs, and advice for what is short."""

from __future__ import annotations

import json

import pytest

from sortal.backbone import environment
from sortal.cli.main import main


def test_facts_as_one_line_of_json(capsys):
    assert main(["doctor", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    facts = json.loads(line)
    assert {
        "python",
        "packages",
        "devices",
        "fast_bf16",
        "native_kernels",
        "four_bit",
        "cache_dir",
        "advice",
    } <= set(facts)
    assert facts["free_memory_bytes"] > 0 < facts["free_disk_bytes"]


def test_facts_as_a_table(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for heading in ("Python", "devices", "bfloat16", "4-bit", "model cache", "memory"):
        assert heading in shown


def test_what_is_short_comes_with_what_to_do(monkeypatch, capsys):
    from dataclasses import replace

    found = replace(
        environment.look(), free_disk_bytes=10**9, free_memory_bytes=10**9, fast_bf16={"cpu": False}
    )
    monkeypatch.setattr(environment, "look", lambda: found)
    assert main(["doctor", "--json"]) == 0
    advice = {item["problem"]: item["fix"] for item in json.loads(capsys.readouterr().out)["advice"]}
    assert "SORTAL_CACHE" in advice["only 1.0 GB of disk free for models"]
    assert "smaller model" in advice["only 1.0 GB of memory free"]
    assert any("bfloat16" in problem for problem in advice)


@pytest.mark.parametrize("words", [["doctor", "--jsn"], ["doctor", "now"]])
def test_a_wrong_word_is_refused(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")
