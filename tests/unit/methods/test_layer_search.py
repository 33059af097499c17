from __future__ import annotations

import numpy as np
import pytest
import torch

from sortal.backbone.depth import POOLINGS
from sortal.config import build_config
from sortal.data.labels import LabelSpace
from sortal.methods.layer_search import (
    Place,
    SearchRows,
    best_place,
    best_regression,
    read_states,
)
from sortal.methods.state_cache import StateCache
from sortal.training.progress import NoProgress


def place(layer, metric, pooling="last"):
    return Place("summary", pooling, layer, 0.1, metric, {"accuracy": metric})


def test_the_best_place_of_equals_is_the_shallowest():
    places = [place(1, 0.5), place(4, 0.8), place(2, 0.8), place(3, 0.7)]
    assert best_place(places).layer == 2


def test_a_place_is_written_flat():
    assert place(2, 0.5).to_json() == {
        "template": "summary",
        "pooling": "last",
        "layer": 2,
        "c": 0.1,
        "metric": 0.5,
        "accuracy": 0.5,
    }


def test_rows_are_a_seeded_sample_in_order():
    drawn = SearchRows.draw(1000, 50, 100, seed=1)
    assert len(drawn.train) == len(set(drawn.train.tolist())) == 100
    assert (np.diff(drawn.train) > 0).all()
    assert np.array_equal(drawn.dev, np.arange(50))
    assert np.array_equal(SearchRows.draw(1000, 50, 100, seed=1).train, drawn.train)
    assert not np.array_equal(SearchRows.draw(1000, 50, 100, seed=2).train, drawn.train)
    assert len(SearchRows.draw(1000, 5000, 4000, seed=0).dev) == 2000


def test_the_best_c_of_a_place_is_the_one_that_dev_likes():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(20, 3))
    x, x_dev = (torch.from_numpy(rng.normal(size=(n, 20)).astype(np.float32)) for n in (400, 200))
    gold, dev_gold = ((part.numpy() @ truth).argmax(1) for part in (x, x_dev))
    space, config = LabelSpace(("a", "b", "c"), "single"), build_config({"method": "probe"})
    found = best_regression(x, x_dev, (gold, dev_gold), space, config)
    assert (found.dense.score(x_dev).argmax(1).numpy() == dev_gold).mean() == found.figures["accuracy"]
    assert found.metric > 0.9
    assert found.metric == found.figures["f1_macro"]
    assert found.c > 0.03, "these rows have no noise: the weakest regularisation is best"
    shuffled = best_regression(x, x_dev, (gold[::-1].copy(), dev_gold), space, config)
    assert shuffled.metric < 0.6


class Reader:
    """States that say which token ids were read."""

    def __init__(self):
        self.read, self.skip, self.device = 0, 0, torch.device("cpu")

    def __call__(self, rows):
        self.read += len(rows.last)
        last = rows.input_ids[0, rows.last].float()
        return last[:, None, None, None].expand(-1, len(POOLINGS), 3, 4)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path))
    return lambda: StateCache({}, (len(POOLINGS), 3, 4))


def test_a_text_is_read_once_in_its_life(cache):
    texts = [np.arange(i + 1, dtype=np.int32) for i in range(9)]
    reader = Reader()

    def states(chosen):
        with cache() as open_cache:
            found = read_states(reader, chosen, open_cache, 16, NoProgress(), causal=True, what="")
            return found[0, 0][:, 0]

    np.testing.assert_array_equal(states(texts), np.arange(9))
    assert reader.read == 9
    np.testing.assert_array_equal(states(texts[::-1]), np.arange(9)[::-1])
    np.testing.assert_array_equal(states([texts[3], texts[3], np.array([77], np.int32)]), [3, 3, 77])
    assert reader.read == 10


def test_a_killed_search_goes_on_where_it_was(cache, monkeypatch):
    monkeypatch.setattr("sortal.methods.layer_search._COMMIT", 4)
    texts = [np.array([i], np.int32) for i in range(10)]

    class Killed(Reader):
        def __call__(self, rows):
            if self.read >= 8:
                raise KeyboardInterrupt
            return super().__call__(rows)

    with cache() as open_cache, pytest.raises(KeyboardInterrupt):
        read_states(Killed(), texts, open_cache, 1, NoProgress(), causal=True, what="")
    reader = Reader()
    with cache() as open_cache:
        found = read_states(reader, texts, open_cache, 1, NoProgress(), causal=True, what="")
        np.testing.assert_array_equal(found[1, 2][:, 0], np.arange(10))
    assert reader.read == 2
