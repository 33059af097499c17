"""What ``--resume`` goes on with, and when there is nothing to go on with; kills and damage are in the fault cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sortal.cli.main import main
from sortal.methods.head import HeadScorer
from sortal.training.loop import Loop
from tiny_runs import rows, write_csv

MORE = ("save_minutes=0", "early_stopping_patience=9")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    made = [(text, i % 2, int(i % 3 == 0)) for i, (text, _) in enumerate(rows(50))]
    return write_csv(tmp_path / "d.csv", made, ("text", "a", "b"))


@pytest.fixture
def words(train_words: Any, data: Path) -> Any:
    def made(out: Path, *flags: str, settings: tuple[str, ...] = ()) -> list[str]:
        fixed = [data, "--label-columns", "a,b", "--epochs", "2", "--out", out, *flags]
        made: list[str] = train_words(*fixed, settings=(*MORE, *settings))
        return made

    return made


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before that step (1-based), too early for the loop's own handler to notice."""
    take = Loop._step

    def stepped(loop: Loop, batch: Any) -> None:
        if loop.progress.step + 1 == step:
            raise KeyboardInterrupt
        take(loop, batch)

    monkeypatch.setattr(Loop, "_step", stepped)


def metrics(run: Path) -> str:
    return (run / "metrics.json").read_text()


def record(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "run.json").read_text())
    return values


def test_a_multi_label_run_goes_on_to_the_same_figures(words, tmp_path, monkeypatch, capsys):
    assert main(words(tmp_path / "whole")) == 0
    with monkeypatch.context() as patch:
        stopped_at(5, patch)
        assert main(words(tmp_path / "run")) == 130
    assert record(tmp_path / "run")["status"] == "stopped"
    capsys.readouterr()
    assert main(words(tmp_path / "run", "--resume")) == 0
    assert "resuming at step 4 of 10" in capsys.readouterr().err
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    assert (
        record(tmp_path / "run")["training"]["history"] == record(tmp_path / "whole")["training"]["history"]
    )


def test_a_run_that_ended_before_its_model_was_saved_is_not_trained_again(words, tmp_path, monkeypatch):
    assert main(words(tmp_path / "whole")) == 0
    with monkeypatch.context() as patch:

        def stop(*arguments: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(HeadScorer, "save", stop)
        assert main(words(tmp_path / "run")) == 130
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.setattr(Loop, "_step", lambda loop, batch: pytest.fail("all steps were done"))
    assert main(words(tmp_path / "run", "--resume")) == 0
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_resume_without_a_run_begins_one_and_says_so(words, tmp_path, capsys):
    assert main(words(tmp_path / "run", "--resume")) == 0
    assert f"nothing to resume in {tmp_path / 'run'}: starting from the beginning" in capsys.readouterr().err


def test_resume_of_a_run_without_a_checkpoint_begins_again_and_says_so(words, tmp_path, monkeypatch, capsys):
    def killed(*arguments: Any) -> None:
        raise ZeroDivisionError  # a defect leaves the folder as it is

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "run", killed)
        with pytest.raises(ZeroDivisionError):
            main(words(tmp_path / "run"))
    assert record(tmp_path / "run")["status"] == "failed"
    capsys.readouterr()
    assert main(words(tmp_path / "run", "--resume")) == 0
    assert "nothing to resume in" in capsys.readouterr().err


def test_resume_without_a_name_takes_the_newest_run_of_that_data(
    train_words, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = train_words(data, "--label-columns", "a,b", "--epochs", "2", settings=MORE)
    assert main(words) == 0
    with monkeypatch.context() as patch:
        stopped_at(4, patch)
        assert main(words) == 130
    capsys.readouterr()
    assert main([*words, "--resume"]) == 0
    assert "resuming at step 3 of 10" in capsys.readouterr().err
    assert record(Path("runs/d-head-0-2"))["status"] == "finished"
    assert metrics(Path("runs/d-head-0-2")) == metrics(Path("runs/d-head-0"))


def test_what_does_not_change_the_result_may_change(words, data, tmp_path, monkeypatch):
    assert main(words(tmp_path / "whole")) == 0
    with monkeypatch.context() as patch:
        stopped_at(5, patch)
        assert main(words(tmp_path / "run")) == 130
    data.rename(tmp_path / "moved.csv")
    again = words(
        tmp_path / "run", "--resume", settings=("save_minutes=9", "save_total_limit=1", "threads=1")
    )
    again[again.index(str(data))] = str(tmp_path / "moved.csv")
    assert main(again) == 0
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_the_record_keeps_the_first_start_and_every_resumption(words, tmp_path, monkeypatch):
    for step in (3, 5):
        with monkeypatch.context() as patch:
            stopped_at(step, patch)
            flags = () if step == 3 else ("--resume",)
            assert main(words(tmp_path / "run", *flags)) == 130
    started = record(tmp_path / "run")["started"]
    assert main(words(tmp_path / "run", "--resume")) == 0
    found = record(tmp_path / "run")
    assert found["started"] == started
    assert len(found["resumed"]) == 2
    assert found["status"] == "finished"
    assert "reason" not in found
