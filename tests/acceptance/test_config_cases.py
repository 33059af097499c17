"""Acceptance case B9: a setting that cannot work is refused before any model loads, with the nearest real name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sortal import run as run_module
from sortal.cli.main import main
from tiny_runs import rows, write_csv


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "d.csv", rows(30, ("good", "bad")))


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    made = [(text, i % 2, int(i % 3 == 0)) for i, (text, _) in enumerate(rows(30))]
    return write_csv(tmp_path / "wide.csv", made, ("text", "a", "b"))


def never(*arguments: Any, **more: Any) -> None:
    pytest.fail("it went too far")


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetching, resolving or loading a model fails the test."""
    from sortal.backbone import loading

    for name in ("load_classifier", "load_tokenizer", "load_config"):
        monkeypatch.setattr(loading, name, never)
    monkeypatch.setattr(run_module, "resolve", never)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading any data fails the test."""
    monkeypatch.setattr(run_module, "read_parts", never)


def refused(words: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    """Exit code 2, nothing on stdout, one error with advice, no run folder; what it says."""
    assert main([str(word) for word in words]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("error: ") == 1
    assert "\n→ " in found.err
    assert "Traceback" not in found.err
    assert not Path("runs").exists()
    return found.err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("lerning_rate", "0.1", "unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
        ("lora_rank", "4", "unknown key 'lora_rank'; did you mean 'lora_r'?"),
        ("epochs", "many", "epochs: Input should be a valid integer"),
        ("epochs", "-2", "epochs: Input should be greater than or equal to 0"),
        ("batch_size", "[8]", "batch_size: Input should be a valid integer"),
        ("method", "svm", "method: Input should be 'head'"),
        ("template", "no place", "containing {text} exactly once"),
    ],
)
def test_b9_from_set_and_from_a_file(data, tmp_path, capsys, key, value, reason):
    assert reason in refused(["train", data, "--set", f"{key}={value}"], capsys)
    file = tmp_path / "c.yaml"
    file.write_text(f"data: {data}\n{key}: {value}\n")
    assert reason in refused(["train", "--config", file], capsys)
    assert reason in refused(["config", "validate", file], capsys)


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--lern-rate", "1"], "no such option: --lern-rate"),
        (["--learning-rat", "1"], "no such option: --learning-rat; did you mean --learning-rate?"),
        (["--batch-size", "eight"], "invalid value for '--batch-size'"),
        (["--task", "many"], "task: Input should be 'auto', 'single' or 'multi' (got 'many')"),
        (["--label", "a", "--label-columns", "b,c"], "label_columns cannot be combined with label"),
        (["--task", "single", "--label-delimiter", ";"], "task 'single' contradicts"),
        (["--task", "multi", "--abstain-below", "0.4"], "abstain_below is for single-label tasks"),
        (["--abstain-below", "1.5"], "abstain_below: Input should be less than or equal to 1"),
        (["--verbalizer", "codes"], "verbalizer 'codes' is for method instruct"),
        (["--verbalizer", "t.csv", "--set", "score_init=random"], "no effect with score_init 'random'"),
        (
            ["--method", "probe", "--verbalizer", "t.csv"],
            "verbalizer is for method encoder or head or instruct",
        ),
        (["--learning-rate", "nan"], "learning_rate: Input should be a finite number"),
    ],
)
def test_b9_from_flags(data, capsys, flags, reason):
    assert reason in refused(["train", data, *flags], capsys)


@pytest.mark.usefixtures("no_data")
def test_b9_without_data_it_says_how_to_give_some(capsys):
    assert "error: no data given\n→ write sortal train FILE" in refused(["train"], capsys)


def test_b9_what_only_the_labels_can_tell_is_refused_before_a_model_is_fetched(data, wide, capsys):
    single, multi = ["train", data, "--set"], ["train", wide, "--label-columns", "a,b", "--set"]
    assert "pos_weight is for multi-label tasks" in refused([*single, "pos_weight=balanced"], capsys)
    said = refused([*single, "class_weight={goood: 2}"], capsys)
    assert "class_weight: unknown label 'goood'; did you mean 'good'?" in said
    assert "pos_weight: unknown label 'c'" in refused([*multi, "pos_weight={c: 2}"], capsys)
    assert "abstain_below is for single-label tasks" in refused([*multi, "abstain_below=0.5"], capsys)


def test_b9_from_python(data, tmp_path):
    import sortal
    from sortal.errors import ConfigError

    with pytest.raises(ConfigError, match="unknown key 'epoch'; did you mean 'epochs'"):
        sortal.train(data, epoch=3)
    with pytest.raises(ConfigError, match=r"epochs: .* \(got 'x'\)"):
        sortal.train(data, epochs="x")
    assert not (tmp_path / "runs").exists()
