"""``sortal models``: the list, one model, and names that are none."""

from __future__ import annotations

import json

from sortal.backbone.registry import DEFAULT, REGISTRY
from sortal.cli.main import main


def test_the_list_for_programs_and_people(capsys):
    assert main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in listed] == list(REGISTRY)
    assert [row["name"] for row in listed if row["default"]] == [DEFAULT]
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in REGISTRY)


def test_a_folder_is_shown_with_its_shape(tiny, capsys):
    assert main(["models", "show", str(tiny), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["kind"], row["layers"], row["hidden_size"], row["cached"]) == ("decoder", 2, 32, True)
    assert row["parameters"] > 0
    assert main(["models", "show", str(tiny)]) == 0
    assert "hidden size" in capsys.readouterr().out


def test_an_unknown_name_suggests_the_nearest(capsys):
    assert main(["models", "show", "smollm2-135"]) == 2
    assert "error: unknown model 'smollm2-135'; did you mean 'smollm2-135m'?" in capsys.readouterr().err


def test_a_model_with_terms_of_its_own_is_not_fetched_without_consent(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path))
    assert main(["models", "pull", "gemma-3-270m"]) == 2
    assert "--accept-terms" in capsys.readouterr().err
    assert not any(tmp_path.rglob("*.safetensors"))
