from __future__ import annotations

import json
import os
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sortal.backbone import loading
from sortal.backbone.packing import pack
from sortal.backbone.trunk import Trunk
from sortal.backbone.windows import pack_texts
from sortal.config import build_config
from sortal.errors import ResourceError
from sortal.methods.text_folder import make_encoder
from sortal.methods.trunk_cache import with_trunk
from sortal.training.progress import NoProgress
from tiny_runs import HARD_TEXTS, classifier, fit, rows, write_csv

TEXTS = [*HARD_TEXTS, *(f"text number {i} about something" for i in range(700))]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "states"


@pytest.fixture
def trunk(tiny):
    model = classifier(tiny, labels=3)
    assert loading.enable_packing(model)
    return Trunk(getattr(model, model.base_model_prefix), 1)


@pytest.fixture
def texts(tiny):
    return make_encoder(str(tiny), build_config({"max_length": 64})).encode(TEXTS)


class Count(NoProgress):
    """How many texts were read."""

    def __init__(self):
        self.texts = 0

    def advance(self, units, tokens, note=""):
        self.texts += units


def stored(trunk, texts, facts=None, view=None):
    return with_trunk(texts, trunk, facts or {"base": "a"}, 300, view or NoProgress(), "states")


def test_a_pack_carries_the_states_of_its_tokens_in_its_order(trunk, texts):
    found, chosen = stored(trunk, texts), np.array([600, 3, 3, 0])
    packed = pack_texts(found, chosen)
    with torch.inference_mode():
        expected = trunk.below(pack([texts[i] for i in chosen]))
    torch.testing.assert_close(packed.below, expected)
    assert pack_texts(texts, chosen).below is None


def test_what_is_there_is_not_read_again(trunk, texts):
    first, again, other = Count(), Count(), Count()
    a = stored(trunk, texts, view=first)
    b = stored(trunk, texts, view=again)
    stored(trunk, texts, {"base": "b"}, view=other)
    assert (first.texts, again.texts, other.texts) == (len(texts), 0, len(texts))
    chosen = np.arange(len(texts))
    assert torch.equal(a.below(chosen), b.below(chosen))


def test_a_killed_process_leaves_whole_texts_to_the_next(trunk, texts, cache):
    expected = stored(trunk, texts).below(np.arange(len(texts)))
    path = next(cache.glob("*/states.bin"))
    os.truncate(path, path.stat().st_size // 2 + 3)
    view = Count()
    found = stored(trunk, texts, view=view)
    assert 0 < view.texts < len(texts)
    torch.testing.assert_close(found.below(np.arange(len(texts))), expected)


def test_more_than_may_be_kept_is_refused(trunk, texts, monkeypatch):
    monkeypatch.setenv("SORTAL_STATES_GB", "0.000001")
    with pytest.raises(ResourceError, match=r"(?s)states take .* set cache_trunk to never, or raise"):
        stored(trunk, texts)


def test_a_run_whose_states_do_not_fit_computes_them_in_every_epoch(tmp_path, tiny, cache, monkeypatch):
    monkeypatch.setenv("SORTAL_STATES_GB", "0.000001")
    said = []
    data = write_csv(tmp_path / "d.csv", rows(40))
    result = fit(data, tiny, tmp_path / "run", said=said, preset="fast")
    assert not result.record["training"]["cached_trunk"]
    assert any("more than SORTAL_STATES_GB allows: they are computed in every epoch" in line for line in said)
    assert not cache.exists()


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_a_run_ends_where_one_that_reads_every_layer_does(tmp_path, tiny_models, family, pooling):
    data, found, said = write_csv(tmp_path / "d.csv", rows(60)), {}, []
    for wanted in ("never", "auto"):
        out, settings = tmp_path / wanted, {"lora_top_layers": 1, "cache_trunk": wanted, "pooling": pooling}
        result = fit(data, tiny_models[family], out, said=said, epochs=2, **settings)
        training = json.loads((out / "run.json").read_text())["training"]
        assert training["cached_trunk"] == (wanted == "auto" and family != "gpt2")
        found[wanted] = pq.read_table(out / "predictions.parquet").to_pandas().select_dtypes("number")
        alone = result.classifier.predict_proba(["text number 3 about something"])
        found[wanted + " alone"] = alone
    np.testing.assert_allclose(found["auto"], found["never"], atol=2e-5)
    np.testing.assert_allclose(found["auto alone"], found["never alone"], atol=2e-5)
    told = any("computed in every epoch" in line for line in said)
    assert told == (family == "gpt2")


def test_what_the_states_cost_is_part_of_what_training_took(tmp_path, tiny, cache, monkeypatch):
    from sortal.methods import head

    quick = head.with_trunk

    def slow(*args):
        time.sleep(0.4)
        return quick(*args)

    monkeypatch.setattr(head, "with_trunk", slow)
    data, took = write_csv(tmp_path / "d.csv", rows(40)), {}
    for wanted in ("auto", "never"):
        settings = {"lora_top_layers": 1, "cache_trunk": wanted}
        result = fit(data, tiny, tmp_path / wanted, **settings)
        took[wanted] = result.record["training"]
    assert took["auto"]["trunk_seconds"] >= 0.8, "of train and of dev"
    assert took["auto"]["train_seconds"] > took["auto"]["trunk_seconds"]
    assert "trunk_seconds" not in took["never"]
