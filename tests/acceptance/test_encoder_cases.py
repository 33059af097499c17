"""Method encoder, end to end on tiny random encoders of several families."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import sortal
from encoder_files import ENCODERS, plain_scores
from sortal.errors import CheckpointError, ConfigError, ModelError
from sortal.training.loop import Loop
from tiny_runs import HARD_TEXTS, edit_json, fit, rows, write_csv

LABELS = ("odd", "good", "bad")
TEXTS = [*HARD_TEXTS, "[SEP] [MASK]", "<mask> </s>", *(text for text, _ in rows(20, LABELS))]
TOPICS = [("aaaa", "first"), ("bbbb", "second"), ("aabb", "first|second"), ("cccc", "")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", rows(45, LABELS))


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    lines = [(f"{text * 3} {i}", labels) for i in range(15) for text, labels in TOPICS]
    return write_csv(tmp_path_factory.mktemp("data") / "topics.csv", lines)


def encode(data, base, out, **settings):
    """A short fp32 run of method encoder."""
    values = {"method": "encoder", "learning_rate": 1e-3, "head_learning_rate": 2e-2, "max_length": 100}
    return fit(data, base, out, **{**values, **settings})


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_encoders, data):
    """``runs(family, **settings)``: a run, made once for every combination asked for."""
    made: dict[tuple, SimpleNamespace] = {}

    def run(family="bert", **settings):
        key = (family, *sorted(settings.items()))
        if key not in made:
            out, said = tmp_path_factory.mktemp("run") / "out", []
            result = encode(data, tiny_encoders[family], out, said=said, **settings)
            made[key] = SimpleNamespace(
                result=result, classifier=result.classifier, model=out / "model", said=said
            )
        return made[key]

    return run


def scores(run, texts=HARD_TEXTS):
    return run.classifier.scorer.score(texts)


# transformers, reload


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {}) for family in ENCODERS),
        ("bert", {"pooling": "mean"}),
        ("sentence", {"pooling": "own"}),
        ("roberta", {"tuning": "lora"}),
        ("sentence", {"tuning": "lora", "truncation": "tail"}),
    ],
)
def test_plain_transformers_gives_the_same_logits(runs, family, settings):
    run = runs(family, **settings)
    ours = scores(run, TEXTS)
    assert np.abs(ours - ours[0]).max() > 1e-3, "texts differ in their scores"
    np.testing.assert_allclose(plain_scores(run.model, TEXTS), ours, rtol=1e-5, atol=1e-5)
    for text, expected in zip(TEXTS[:10], ours, strict=False):
        np.testing.assert_allclose(scores(run, [text])[0], expected, rtol=1e-5, atol=1e-5)
    mean = settings.get("pooling", "mean" if family == "sentence" else "own") == "mean"
    assert (run.model / "score.safetensors").exists() == mean
    assert not list(run.model.glob("adapter*"))


@pytest.mark.parametrize("settings", [{}, {"tuning": "lora"}])
@pytest.mark.parametrize("family", ["deberta-v2", "sentence"])
def test_a_reloaded_folder_answers_the_same_without_its_base(runs, tmp_path, family, settings):
    run = runs(family, **settings)
    shutil.copytree(run.model, tmp_path / "moved")
    edit_json(tmp_path / "moved" / "sortal.json", base_model={"spec": "gone", "revision": None})
    again = sortal.load(tmp_path / "moved")
    np.testing.assert_array_equal(again.scorer.score(TEXTS), scores(run, TEXTS))
    assert again.predict(TEXTS) == run.classifier.predict(TEXTS)


def test_the_records_say_what_was_trained(runs):
    full, lora = runs().result, runs("sentence", tuning="lora").result
    training = full.record["training"]
    assert training["trainable_parameters"] == training["parameters"]
    assert (training["tuning"], training["pooling"]) == ("full", "own")
    assert lora.record["training"]["pooling"] == "mean"
    assert lora.record["training"]["trainable_parameters"] < 0.5 * lora.record["training"]["parameters"]
    assert full.record["size_on_disk"]["base_model_bytes"] == 0, "the folder is all that is needed"
    meta = json.loads((full.folder / "model" / "sortal.json").read_text())
    assert meta["method"] == "encoder"
    assert set(meta["files"]) == {"model.safetensors"}
    assert "plain transformers loads it" in (full.folder / "model" / "README.md").read_text()


# learning


@pytest.mark.parametrize(
    ("family", "settings"),
    [("bert", {}), ("sentence", {"class_weight": "balanced"}), ("sentence", {"tuning": "lora"})],
)
def test_it_learns(tiny_encoders, tmp_path, family, settings):
    lines = [(f"{'xyz'[i % 3] * 6} {i}", LABELS[i % 3]) for i in range(60)]
    data = write_csv(tmp_path / "data.csv", lines)
    result = encode(data, tiny_encoders[family], tmp_path / "run", epochs=10, batch_size=4, **settings)
    classifier = sortal.load(tmp_path / "run" / "model")
    right = np.mean([classifier.predict([text]) == [label] for text, label in lines])
    assert right > 0.9
    assert result.metrics["accuracy"] > 0.8


def test_the_body_itself_is_trained(runs, tiny_encoders):
    before = load_file(tiny_encoders["bert"] / "model.safetensors")
    after = load_file(runs().model / "model.safetensors")
    moved = [name for name, value in before.items() if name in after and not value.equal(after[name])]
    assert len(moved) > 0.8 * len(after)


@pytest.mark.parametrize("settings", [{}, {"class_weight": "balanced", "loss": "focal"}])
def test_one_example_per_microbatch_ends_in_the_same_scores(runs, settings):
    whole, cut = runs(max_tokens=100_000, **settings), runs(max_tokens=16, **settings)
    np.testing.assert_allclose(scores(cut), scores(whole), atol=1e-4)
    shifted = any("they are recalibrated on dev" in line for line in whole.said)
    assert shifted == bool(settings)


def test_dropout_is_at_work_in_training_only(runs):
    plain, dropped = runs(), runs(encoder_dropout=0.3)
    assert np.abs(scores(dropped) - scores(plain)).max() > 1e-3
    np.testing.assert_array_equal(scores(dropped), scores(dropped))


def test_several_labels(tiny_encoders, topics, tmp_path):
    result = encode(
        topics, tiny_encoders["sentence"], tmp_path / "run", label_delimiter="|", epochs=12, batch_size=4
    )
    model = tmp_path / "run" / "model"
    assert json.loads((model / "config.json").read_text())["problem_type"] == "multi_label_classification"
    classifier = sortal.load(model)
    expected = [("first",), ("second",), ("first", "second"), ()]
    assert classifier.predict([text * 3 for text, _ in TOPICS]) == expected
    probabilities = classifier.predict_proba(TEXTS)
    np.testing.assert_array_equal(probabilities, result.classifier.predict_proba(TEXTS))
    assert result.metrics["f1_micro"] > 0.75


def test_the_best_weights_are_kept_and_training_stops_early(tiny_encoders, data, tmp_path):
    more = {"epochs": 15, "early_stopping_patience": 1}
    result = encode(data, tiny_encoders["bert"], tmp_path / "run", learning_rate=0.02, **more)
    training, history = result.record["training"], result.record["training"]["history"]
    assert training["steps"] == history[-1]["step"] < 75
    best = max(history, key=lambda entry: entry["f1_macro"])
    assert training["best_step"] == best["step"] == history[-2]["step"]


# resuming


@pytest.mark.parametrize(
    "settings",
    [{"encoder_dropout": 0.2}, {"tuning": "lora", "lora_dropout": 0.2, "pooling": "mean"}],
    ids=["full", "lora"],
)
def test_a_run_killed_at_a_step_goes_on_to_the_same_bytes(
    tiny_encoders, data, tmp_path, monkeypatch, settings
):
    from sortal.config import build_config
    from sortal.run import run

    base = tiny_encoders["bert"]
    more = {"epochs": 2, "save_minutes": 0, **settings}
    encode(data, base, tmp_path / "whole", **more)

    class Killed(BaseException):
        """As sudden as a signal that nothing catches."""

    step = Loop._step

    def until(loop, batch):
        if loop.progress.step == 7:
            raise Killed
        step(loop, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", until)
        with pytest.raises(Killed):
            encode(data, base, tmp_path / "run", **more)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    values = record["config"]
    other = {"encoder_dropout": 0.0} if values["tuning"] == "full" else {"pooling": "own"}
    with pytest.raises(CheckpointError, match=f"another one: {next(iter(other))}: "):
        run(build_config(values | other), resume=True, quiet=True, say=lambda _: None)
    said: list[str] = []
    run(build_config(values), resume=True, quiet=True, say=said.append)
    assert any(line.startswith("resuming at step 7 of 10") for line in said)
    for name in ("model/model.safetensors", "metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# folders that do not fit together


@pytest.fixture(params=["bert", "sentence"])
def folder(runs, tmp_path, request):
    """A copy of a model folder to damage, with a head of its own and with one on the mean."""
    shutil.copytree(runs(request.param).model, tmp_path / "model")
    return tmp_path / "model"


def damage(folder: Path, name: str, change, *, rehash=True):
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, metadata={"format": "pt"})
    if rehash:
        meta = json.loads((folder / "sortal.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        edit_json(folder / "sortal.json", files={**meta["files"], name: digest})


def test_a_lost_or_stray_tensor_is_refused(folder):
    name = next(n for n in load_file(folder / "model.safetensors") if n.endswith("1.output.dense.weight"))
    damage(folder, "model.safetensors", lambda t: t.update({name + "s": t[name].clone()}))
    with pytest.raises(ModelError, match="holds, and has no place for, 1 tensors"):
        sortal.load(folder)
    damage(folder, "model.safetensors", lambda t: [t.pop(name), t.pop(name + "s")])
    with pytest.raises(ModelError, match="lacks 1 tensors"):
        sortal.load(folder)


def test_a_head_that_is_lost_or_of_another_shape_is_refused(runs, folder):
    mean = (folder / "score.safetensors").exists()
    name, key = ("score.safetensors", "weight") if mean else ("model.safetensors", "classifier.weight")
    damage(folder, name, lambda t: t.update({key: t[key][:2].clone()}))
    with pytest.raises(ModelError, match="expected" if mean else "cannot be loaded as an encoder"):
        sortal.load(folder)
    damage(folder, name, lambda t: t.pop(key))
    with pytest.raises(ModelError, match="expected" if mean else "lacks 1 tensors, classifier"):
        sortal.load(folder)


def test_changed_files_are_refused(folder):
    damage(folder, "model.safetensors", lambda t: t[next(iter(t))].add_(1), rehash=False)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        sortal.load(folder)


def test_another_label_order_or_tokenizer_is_refused(folder):
    names = json.loads((folder / "sortal.json").read_text(encoding="utf-8"))["labels"]
    edit_json(folder / "sortal.json", labels=[*names[1:], names[0]])
    with pytest.raises(ModelError, match="disagree about the labels"):
        sortal.load(folder)
    edit_json(folder / "sortal.json", labels=names)
    edit_json(folder / "tokenizer_config.json", truncation_side="left")
    with pytest.raises(ModelError, match="does not apply the template"):
        sortal.load(folder)


# refusals


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("method", ["encoder", "head", "instruct"])
def test_a_base_of_the_other_kind_is_refused_in_one_sentence(
    tiny, tiny_encoders, data, tmp_path, method, dry
):
    from sortal.config import build_config
    from sortal.dry_run import dry_run
    from sortal.run import run

    base = tiny if method == "encoder" else tiny_encoders["bert"]
    kinds = ("an encoder", "a causal language model")
    wanted, found = kinds if method == "encoder" else kinds[::-1]
    values = {"data": str(data), "model": str(base), "method": method, "out": str(tmp_path / "run")}
    act = dry_run if dry else run
    with pytest.raises(ModelError) as caught:
        act(build_config(values), say=lambda _: None)
    assert caught.value.what == f"method {method} needs {wanted}, and {base} is {found}"
    assert "choose method" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_more_tokens_than_positions_are_refused(tiny_encoders, data, tmp_path):
    with pytest.raises(ConfigError, match=r"max_length 129 is more than .* \(128\)"):
        encode(data, tiny_encoders["roberta"], tmp_path / "run", max_length=129)
    result = encode(data, tiny_encoders["roberta"], tmp_path / "run", max_length=None)
    scorer = result.classifier.scorer
    assert scorer.encoder.max_length == 128
    assert np.isfinite(scorer.score(["long " * 200])).all()


def test_the_dry_run_shows_what_is_read(tiny_encoders, data, capsys):
    from transformers import AutoTokenizer

    from sortal.cli.main import main

    for family, reads in (("roberta", 1), ("sentence", None)):
        base = tiny_encoders[family]
        words = ["train", str(data), "--method", "encoder", "--model", str(base), "--tuning", "full"]
        assert main([*words, "--pooling", "auto", "--dry-run", "--json"]) == 0
        summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        plain = AutoTokenizer.from_pretrained(base)
        for row in summary["rows"]:
            assert row["ids"] == plain(row["text"])["input_ids"]
            assert len(row["read_at"]) == (reads or len(row["ids"]))
