"""Presets and the time said in advance, as users meet them."""

from __future__ import annotations

import json
import signal

import pyarrow.parquet as pq
import pytest

from model_files import save_tiny
from sortal import method_defaults
from sortal.cli.main import main
from sortal.training import forecast
from tiny_runs import fit, rows, write_csv


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Three layers, of which half is two."""
    return save_tiny("llama", tmp_path_factory.mktemp("deep") / "llama", layers=3)


@pytest.fixture
def data(tmp_path):
    return write_csv(tmp_path / "d.csv", rows(60))


def train(data, model, out, *more):
    sizes = ["epochs=1", "dtype=float32", "threads=1", "n_resamples=100", "max_length=96"]
    return main(["train", str(data), "--model", str(model), "--out", str(out), *more, "--set", *sizes])


def test_fast_is_the_upper_half_of_any_model_and_the_same_run_as_its_settings(data, deep, tmp_path):
    assert train(data, deep, tmp_path / "fast", "--preset", "fast") == 0
    assert train(data, deep, tmp_path / "spelled", "--set", "lora_top_layers=2") == 0
    fast, spelled = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("fast", "spelled"))
    assert (fast["config"]["preset"], fast["config"]["lora_top_layers"]) == ("fast", "half")
    assert fast["training"]["cached_trunk"]
    assert fast["training"]["trainable_parameters"] == spelled["training"]["trainable_parameters"]
    tables = [pq.read_table(tmp_path / name / "predictions.parquet") for name in ("fast", "spelled")]
    assert tables[0].equals(tables[1])
    assert "preset fast" in (tmp_path / "fast/model/README.md").read_text()


def test_a_preset_for_another_method_is_refused_before_anything_is_read(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none.csv"), "--method", "encoder", "--preset", "fast"]) == 2
    assert "preset 'fast' is for method head" in capsys.readouterr().err


def test_a_run_that_was_started_with_a_preset_is_resumed_by_its_settings(data, deep, tmp_path, capsys):
    from sortal.training.loop import Loop

    out, whole, steps = tmp_path / "run", Loop._step, []

    def stopped(loop, batch):
        steps.append(1)
        if len(steps) == 4:
            signal.raise_signal(signal.SIGINT)
        whole(loop, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_step", stopped)
        assert train(data, deep, out, "--preset", "fast", "--batch-size", "8") == 130
    capsys.readouterr()
    more = ("--batch-size", "8", "--resume", "--set", "lora_top_layers=half")
    assert train(data, deep, out, *more) == 0
    assert "resuming at step 4" in capsys.readouterr().err


def test_a_run_says_its_time_before_the_first_step_and_keeps_it_beside_what_it_took(
    data, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(forecast, "_WORTH_MEASURING", 0)
    monkeypatch.setattr(forecast, "_WORTH_SAYING", 0)
    monkeypatch.setattr(forecast, "matrix_flops", lambda device, dtype: 1e8)
    said: list[str] = []
    record = fit(data, tiny, tmp_path / "run", said=said, epochs=2).record
    line = next(number for number, text in enumerate(said) if text.startswith("preset balanced: about "))
    first = next(number for number, text in enumerate(said) if text.startswith("epoch 1 "))
    assert line < first
    training = record["training"]
    assert f"{training['train_tokens_per_epoch']:,} real tokens per epoch × 2 at about" in said[line]
    found = training["forecast"]
    assert found["used_steps"] == found["foreseen_steps"] == training["steps"]
    assert found["used_seconds"] == pytest.approx(training["train_seconds"], abs=0.01)
    assert found["least"] < found["foreseen_seconds"] < found["most"]
    assert any("times as long as foreseen" in text for text in said)


def test_a_plan_shows_the_presets_side_by_side(data, deep, tiny_encoders, capsys, monkeypatch):
    monkeypatch.setitem(method_defaults._ENCODER, "model", str(tiny_encoders["bert"]))
    asked = ["plan", str(data), "--model", str(deep), "--set", "dtype=float32", "--json"]
    plans = []
    for more in ([], ["--preset", "best"]):
        assert main([*asked, *more]) == 0
        shown = capsys.readouterr()
        plans.append(json.loads(shown.out.splitlines()[-1]))
        found = plans[-1]["presets"]
        assert list(found) == ["fast", "balanced", "best"]
        assert found["fast"]["state_bytes"] > 0 == found["balanced"]["state_bytes"]
        assert found["fast"]["seconds"][1] < found["balanced"]["seconds"][1] < found["best"]["seconds"][1]
        assert found["best"]["blend"] == "tfidf"
        assert "+ tfidf" in shown.err
    assert plans[1]["method"] == "head", "the plan of best is its head's, beside the presets' own lines"
    assert plans[1]["steps"] == plans[0]["steps"]


def test_a_plan_fetches_no_encoder_that_was_not_asked_for(data, deep, capsys, monkeypatch):
    monkeypatch.setattr("sortal.backbone.pypi.download", lambda *_: pytest.fail("nothing may be fetched"))
    assert main(["plan", str(data), "--model", str(deep), "--set", "dtype=float32", "--json"]) == 0
    shown = capsys.readouterr()
    assert list(json.loads(shown.out.splitlines()[-1])["presets"]) == ["fast", "balanced"]
    assert "preset best is left out: minilm-l6 is not on this machine" in shown.err


def test_a_plan_leaves_out_a_preset_that_the_settings_contradict(data, deep, capsys):
    asked = ["plan", str(data), "--model", str(deep), "--set", "dtype=float32", "blend=none", "--json"]
    assert main(asked) == 0
    assert list(json.loads(capsys.readouterr().out.splitlines()[-1])["presets"]) == ["fast", "balanced"]


@pytest.mark.parametrize("rows_given", [40, 1100])
def test_all_epochs_are_trained_and_the_last_weights_kept(tmp_path, tiny, rows_given):
    data, slow = write_csv(tmp_path / "d.csv", rows(rows_given)), 1e-6
    found = fit(data, tiny, tmp_path / "run", epochs=4, learning_rate=slow, head_learning_rate=slow)
    training = found.record["training"]
    assert len(training["history"]) == 4, "hardly trained, no evaluation gains"
    assert training["best_step"] == training["steps"]


@pytest.mark.parametrize(("metric", "kept"), [("f1_macro", 2), ("loss", 1)])
def test_an_epoch_that_was_far_better_on_dev_is_kept_and_said(tmp_path, tiny, monkeypatch, metric, kept):
    """40 rows, 4 of them dev: f1_macro may fall by 0.5 / √4; of a loss any rise counts."""
    figures = iter([(0.3, 0.5), (0.9, 0.6), (0.6, 0.7)])

    def told(*_):
        f1, loss = next(figures)
        return {"f1_macro": f1, "loss": loss, "metric": f1 if metric == "f1_macro" else -loss}

    monkeypatch.setattr("sortal.methods.tuning.dev_figures", told)
    said: list[str] = []
    data = write_csv(tmp_path / "d.csv", rows(40))
    found = fit(data, tiny, tmp_path / "run", said=said, epochs=3, metric_for_best_model=metric)
    training = found.record["training"]
    assert training["best_step"] == training["history"][kept - 1]["step"]
    assert any(line.startswith(f"the weights of epoch {kept} are kept: its dev {metric}") for line in said)


def test_early_stopping_that_is_asked_for_happens_with_any_dev_set(tmp_path, tiny):
    data = write_csv(tmp_path / "d.csv", rows(40))
    slow = {"learning_rate": 1e-6, "head_learning_rate": 1e-6}
    found = fit(data, tiny, tmp_path / "run", epochs=5, early_stopping_patience=1, **slow)
    assert len(found.record["training"]["history"]) == 2
