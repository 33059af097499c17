"""Method probe, and heads cut at a layer, end to end on tiny random decoders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import sortal
from sortal.errors import CheckpointError, ConfigError, ModelError
from sortal.methods import layer_search
from tiny_runs import HARD_TEXTS, edit_json, fit, plain_classifier, plain_logits, rows, write_csv

LABELS = ("odd", "good", "bad")
TEXTS = [*HARD_TEXTS, *(text for text, _ in rows(20, LABELS))]
TOPICS = [("aaaa", "first"), ("bbbb", "second"), ("aabb", "first|second"), ("cccc", "")]


@pytest.fixture(scope="module", autouse=True)
def states(tmp_path_factory):
    """The folder of cached states."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("SORTAL_CACHE", str(cache))
        yield cache / "states"


@pytest.fixture(scope="module")
def bases(tiny_models, tmp_path_factory):
    """The tiny models, and one with four layers."""
    from model_files import save_tiny

    return {**tiny_models, "deep": save_tiny("llama", tmp_path_factory.mktemp("deep") / "deep", layers=4)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", rows(90, LABELS))


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    lines = [(f"{text * 3} {i}", labels) for i in range(15) for text, labels in TOPICS]
    return write_csv(tmp_path_factory.mktemp("data") / "topics.csv", lines)


def probe(data, base, out, **settings):
    """A run of method probe; the settings of training that `fit` gives are not for it."""
    free = {"epochs": None, "batch_size": None, "learning_rate": 2e-3, "head_learning_rate": 2e-3}
    return fit(data, base, out, method="probe", **{**free, **settings})


@pytest.fixture(scope="module")
def runs(tmp_path_factory, bases, data):
    """``runs(family, how, **settings)``: a run, made once for every combination asked for."""
    made: dict[tuple, SimpleNamespace] = {}

    def run(family="deep", how=probe, **settings):
        key = (family, how.__name__, *sorted(settings.items()))
        if key not in made:
            out, said = tmp_path_factory.mktemp("run") / "out", []
            result = how(data, bases[family], out, said=said, **settings)
            made[key] = SimpleNamespace(
                result=result,
                classifier=result.classifier,
                model=out / "model",
                said=said,
                base=bases[family],
                training=result.record["training"],
            )
        return made[key]

    return run


def scores(run, texts=TEXTS):
    return run.classifier.scorer.score(texts)


# the probe


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {}) for family in ("llama", "qwen3", "gemma3", "mistral", "gpt2")),
        ("deep", {"pooling": "last"}),
        ("deep", {"pooling": "mean", "template": "eos"}),
        ("gemma3", {"bidirectional": True}),
        ("deep", {"template": "About {text}", "truncation": "tail"}),
    ],
)
def test_a_reloaded_folder_gives_the_same_scores_in_any_batch(runs, family, settings):
    run = runs(family, **settings)
    ours = scores(run)
    assert np.abs(ours - ours[0]).max() > 1e-3, "texts differ in their scores"
    again = sortal.load(run.model)
    np.testing.assert_array_equal(again.scorer.score(TEXTS), ours)
    assert again.predict(TEXTS) == run.classifier.predict(TEXTS)
    for text, expected in zip(TEXTS[:10], ours, strict=False):
        np.testing.assert_allclose(scores(run, [text])[0], expected, rtol=1e-4, atol=1e-4)


def test_every_template_pooling_and_layer_was_compared_and_the_best_is_used(runs):
    run = runs()
    places = run.training["layers"]
    compared = {(p["template"], p["pooling"], p["layer"]) for p in places}
    assert compared == {
        (template, pooling, layer)
        for template in ("summary", "topic", "eos")
        for pooling in ("last", "mean")
        for layer in (1, 2, 3, 4)
    }
    assert len(places) == 24
    best = max(places, key=lambda place: place["metric"])
    assert best["metric"] == best["f1_macro"]
    chosen = [
        p for p in places if all(p[key] == run.training[key] for key in ("template", "pooling", "layer"))
    ]
    assert [p["metric"] for p in chosen] == [best["metric"]]
    meta = json.loads((run.model / "sortal.json").read_text())
    assert (meta["layers"], meta["pooling"]) == (run.training["layer"], run.training["pooling"])
    assert json.loads((run.model / "config.json").read_text())["num_hidden_layers"] == meta["layers"]
    assert any(f"best on dev: layer {run.training['layer']}" in line for line in run.said)
    assert run.training["trainable_parameters"] == 3 * 32 + 3


def test_a_probe_learns_what_its_rows_say(runs):
    """Byte-level words of three labels: a random frozen decoder tells most of them apart."""
    assert runs().result.metrics["accuracy"] >= 0.8


def test_several_labels_per_row_are_one_regression_each(bases, topics, tmp_path):
    result = probe(topics, bases["deep"], tmp_path / "out", label_delimiter="|", test_size=0.3)
    assert result.metrics["f1_micro"] >= 0.9
    again = sortal.load(tmp_path / "out" / "model")
    assert again.predict(["bbbbbbbbbbbb 99"]) == [("second",)]


def test_reading_both_ways_changes_what_causal_reading_gives(runs):
    causal, both = (
        runs("gemma3", template="eos", pooling="last"),
        runs("gemma3", template="eos", pooling="last", bidirectional=True),
    )
    assert np.abs(scores(causal) - scores(both)).max() > 1e-2
    assert json.loads((both.model / "sortal.json").read_text())["bidirectional"] is True


def test_reading_both_ways_needs_packed_rows(bases, data, tmp_path, monkeypatch):
    monkeypatch.setattr("sortal.backbone.loading.enable_packing", lambda model: False)
    with pytest.raises(ConfigError, match="bidirectional needs a model that runs packed rows"):
        probe(data, bases["llama"], tmp_path / "out", bidirectional=True)


def test_a_second_run_finds_the_states_of_the_first(bases, data, tmp_path, states, monkeypatch):
    reader = layer_search.LayerReader
    read = []

    class Counting(reader):
        def __call__(self, rows):
            read.append(len(rows.last))
            return super().__call__(rows)

    monkeypatch.setattr(layer_search, "LayerReader", Counting)
    shutil.rmtree(states, ignore_errors=True)
    first = probe(data, bases["llama"], tmp_path / "a", template="summary")
    once = sum(read)
    second = probe(data, bases["llama"], tmp_path / "b", template="summary")
    assert once > 70
    assert sum(read) - once <= 2 * 2, "only the reader's own check, of two texts"
    np.testing.assert_array_equal(first.classifier.scorer.score(TEXTS), second.classifier.scorer.score(TEXTS))
    assert first.record["training"]["layers"] == second.record["training"]["layers"]


def test_layers_are_compared_on_a_sample_and_the_regression_sees_all_rows(runs):
    run = runs(probe_rows=30, template="summary")
    assert any(line.startswith("30 train and ") for line in run.said)
    whole, part = runs(template="summary"), run
    assert whole.training["layers"] != part.training["layers"]


def test_with_a_split_seed_every_seed_compares_layers_on_the_same_rows(runs):
    first, second = (runs(probe_rows=30, template="summary", split_seed=0, seed=seed) for seed in (0, 5))
    assert first.training["layers"] == second.training["layers"]


def test_a_cache_with_room_for_one_template_serves_three(runs, bases, data, tmp_path, monkeypatch):
    expected = runs().training["layers"]
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SORTAL_STATES_GB", str(90 * (4 * 2 * 32 * 2 + 16) / 1e9))
    found = probe(data, bases["deep"], tmp_path / "out")
    assert found.record["training"]["layers"] == expected


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "probe.safetensors").unlink(), "probe.safetensors is missing"),
        (lambda folder: edit_json(folder / "config.json", num_hidden_layers=5), "config.json has 5 layers"),
        (lambda folder: edit_json(folder / "sortal.json", layers=9), "sortal.json 9"),
    ],
)
def test_a_folder_that_was_changed_is_refused(runs, tmp_path, damage, complaint):
    run = runs(template="summary", pooling="last")
    edit = tmp_path / "model"
    shutil.copytree(run.model, edit)
    damage(edit)
    with pytest.raises(ModelError, match=complaint):
        sortal.load(edit)


def test_weights_of_another_label_set_are_refused(runs, tmp_path):
    run = runs(template="summary", pooling="last")
    edit = tmp_path / "model"
    shutil.copytree(run.model, edit)
    tensors = load_file(edit / "probe.safetensors")
    save_file(
        {"weight": tensors["weight"][:2].clone(), "bias": tensors["bias"][:2].clone()},
        edit / "probe.safetensors",
    )
    meta = json.loads((edit / "sortal.json").read_text())
    edit_json(
        edit / "sortal.json", files={k: v for k, v in meta["files"].items() if k != "probe.safetensors"}
    )
    with pytest.raises(ModelError, match="belongs to another label set"):
        sortal.load(edit)


def test_an_encoder_is_sent_to_its_own_method(tiny_encoders, data, tmp_path):
    with pytest.raises(ModelError, match="method probe needs a causal language model"):
        probe(data, tiny_encoders["bert"], tmp_path / "out")


def test_a_dry_run_shows_what_is_read(bases, data):
    from sortal.config import build_config
    from sortal.dry_run import dry_run

    said: list[str] = []
    values = {"method": "probe", "data": str(data), "model": str(bases["llama"])}
    found = dry_run(build_config(values), say=said.append)
    assert "the states of all layers are compared" in "\n".join(said)
    assert "steps" not in found
    assert found["rows"][0]["read_at"] == [len(found["rows"][0]["ids"]) - 1]


# heads cut at a layer


@pytest.mark.parametrize("family", ["deep", "qwen3", "gpt2"])
def test_plain_transformers_gives_the_scores_of_a_cut_head(runs, family):
    run = runs(family, fit, keep_layers=1)
    ours = scores(run)
    assert np.abs(ours - ours[0]).max() > 1e-3
    tokenizer, model = plain_classifier(run.model, run.base)
    assert model.config.num_hidden_layers == 1
    np.testing.assert_allclose(plain_logits(tokenizer, model, TEXTS), ours, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(sortal.load(run.model).scorer.score(TEXTS), ours)


def test_a_mean_pooled_head_is_reloaded_as_it_was_and_says_that_it_is_ours(runs):
    run = runs("deep", fit, keep_layers=3, pooling="mean")
    np.testing.assert_array_equal(sortal.load(run.model).scorer.score(TEXTS), scores(run))
    assert any("pooling 'mean' is Sortal's own" in line for line in run.said)
    assert "load it with Sortal" in (run.model / "README.md").read_text()
    assert run.training["pooling"] == "mean"
    assert np.abs(scores(run) - scores(runs("deep", fit, keep_layers=3))).max() > 1e-3


def test_a_cut_head_trains_fewer_parameters(runs):
    cut, whole = runs("deep", fit, keep_layers=1).training, runs("deep", fit).training
    assert cut["layer"] == 1
    assert whole["layer"] == 4
    assert cut["parameters"] < whole["parameters"]
    assert 4 * (cut["trainable_parameters"] - 3 * 32) == whole["trainable_parameters"] - 3 * 32


def test_auto_keeps_the_layers_up_to_the_best_one_of_the_frozen_model(runs):
    run = runs("deep", fit, keep_layers="auto")
    places = run.training["layers"]
    assert {place["template"] for place in places} == {"summary"}
    assert {place["pooling"] for place in places} == {"last", "mean"}
    best = max(places, key=lambda place: (place["metric"], -place["layer"]))
    assert (run.training["layer"], run.training["pooling"]) == (best["layer"], best["pooling"])
    assert run.classifier.scorer.model.inner.config.num_hidden_layers == best["layer"]
    assert any(line.startswith(f"keeping {best['layer']} layers") for line in run.said)
    made = sortal.report(run.result.folder)
    assert (
        f"the ring is the choice: layer {best['layer']}, summary, {best['pooling']}"
        in Path(made.html).read_text()
    )


def test_a_resumed_head_keeps_the_depth_it_began_with(bases, data, tmp_path, monkeypatch):
    """Another search could end elsewhere, and the checkpoint would belong to another model."""
    from sortal.methods import head_depth
    from sortal.training.loop import Loop

    out = tmp_path / "out"
    evaluate, calls = Loop._evaluate, []

    def killed(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(Loop, "_evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(data, bases["deep"], out, keep_layers="auto", epochs=3)
    choice = out / "checkpoints" / "layers.json"
    kept = json.loads(choice.read_text())
    monkeypatch.setattr(Loop, "_evaluate", evaluate)
    monkeypatch.setattr(head_depth, "search_places", lambda *_: pytest.fail("searched again"))

    from sortal.config import build_config
    from sortal.run import run

    values = json.loads((out / "run.json").read_text())["config"]
    result = run(build_config(values), resume=True, say=lambda line: None, quiet=True)
    assert result.record["training"]["layer"] == kept["layers"]
    assert result.record["training"]["layers"] == kept["search"]


def test_a_damaged_choice_of_layers_is_refused(bases, data, tmp_path):
    from sortal.config import build_config
    from sortal.methods.head_depth import choose_depth

    (tmp_path / "layers.json").write_text("{")
    context = SimpleNamespace(
        config=build_config({"keep_layers": "auto"}), store=SimpleNamespace(folder=tmp_path), resume=True
    )
    with pytest.raises(CheckpointError, match=r"layers.json is damaged"):
        choose_depth(context)


def test_more_layers_than_the_model_has_are_refused_with_their_number(bases, data, tmp_path):
    with pytest.raises(ConfigError, match="keep_layers is 9, and the model has 4 layers"):
        fit(data, bases["deep"], tmp_path / "out", keep_layers=9)
