"""What a step takes on a GPU: the estimate against the peak, and layers computed twice or once for all epochs."""

from __future__ import annotations

import gc

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from benchmarks.speed.case import Case
from benchmarks.speed.sets import save_config, shape_case
from benchmarks.speed.shapes import card, of_sortal
from benchmarks.speed.train import sortal_network
from benchmarks.speed.weights import made_on

from sortal.backbone.checkpointing import checkpoint_layers
from sortal.backbone.lora import trainable
from sortal.backbone.packing import pack
from sortal.training.losses import Loss
from tiny_runs import fit, random_rows, rows, stir, write_csv

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


def _case(folder, shape, quantization, vocabulary=20_000, **more):
    """Rows of up to 512 tokens for a shape of random weights; of "1b" more than are recorded as CUDA graphs."""
    base = save_config(shape, folder / shape, vocab_size=vocabulary)
    settings = {"batch_size": 32, "steps": 3, "device": DEVICE} | more
    return shape_case(base, shape, 512, quantization, folder / "case", tokens=vocabulary, **settings)


def _network(folder):
    with made_on(DEVICE):
        return sortal_network(Case.read(folder))


@pytest.fixture(autouse=True)
def _nothing_left():
    yield
    gc.collect()
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def one_billion(tmp_path_factory):
    pytest.importorskip("bitsandbytes")
    return _network(_case(tmp_path_factory.mktemp("shape"), "1b", "nf4"))


@pytest.mark.parametrize(
    ("settings", "twice"),
    [({}, False), ({"max_tokens": 2048, "memory": 3_000_000_000}, True)],
    ids=["all of the card", "a card of 3 GB"],
)
def test_the_estimate_is_within_15_percent_of_the_peak(
    one_billion, tmp_path, settings, twice, record_property
):
    """The shape of Llama 3.2 1B in NF4, before a step was taken and from the config alone."""
    folder = _case(tmp_path, "1b", "nf4", **settings)
    case = Case.read(folder)
    with card(case):
        found = of_sortal(one_billion)(case, folder)
    peak = found["peak_memory_bytes"]
    figures = {name: found[name] for name in ("planned_peak_bytes", "estimated_peak_bytes")}
    record_property("memory", {"peak": peak, **figures})
    print({name: f"{figure / peak:.3f} of {peak / 1e9:.2f} GB" for name, figure in figures.items()})
    assert found["checkpointing"] == twice
    assert figures["planned_peak_bytes"] == pytest.approx(peak, rel=0.15)
    assert figures["estimated_peak_bytes"] == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_layers_computed_twice_give_the_same_gradients_and_take_less(tmp_path, quantization):
    pytest.importorskip("bitsandbytes")
    model = stir(_network(_case(tmp_path, "medium", quantization)), 0.02)
    batch = pack(random_rows(*[200] * 16)).to(DEVICE)
    found, peaks = [], []
    for twice in (False, True):
        if twice:
            assert checkpoint_layers(model, dropout=False) == 7
        model.zero_grad()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        logits = model(batch)
        Loss("single")(logits, torch.arange(16, device=DEVICE) % 3).mean().backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
        gradients = torch.cat([p.grad.flatten().float() for p in trainable(model).values()])
        found.append((logits.detach(), gradients))
    (logits, gradients), (again, recomputed) = found
    assert torch.equal(again, logits)
    # The flash kernel adds up the gradient of queries in no fixed order.
    assert (recomputed - gradients).norm() <= 1e-2 * gradients.norm()
    assert peaks[1] < 0.5 * peaks[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_states_below_the_tuned_layers_are_computed_once(tmp_path, tiny, monkeypatch, dtype):
    """In fp32 a run with them ends where one without does, in bf16 nearby: packs of other texts round otherwise."""
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    data = write_csv(tmp_path / "data.csv", rows(90, ("odd", "good", "bad")))
    probabilities = {}
    for cache in ("auto", "never"):
        settings = {"lora_top_layers": 1, "cache_trunk": cache, "epochs": 3, "dtype": dtype}
        result = fit(data, tiny, tmp_path / cache, **settings)
        assert result.record["training"]["cached_trunk"] == (cache == "auto")
        table = pq.read_table(tmp_path / cache / "predictions.parquet").to_pandas()
        probabilities[cache] = table.select_dtypes("number").to_numpy()
    difference = np.abs(probabilities["auto"] - probabilities["never"])
    assert difference.max() < 1e-3 if dtype == "float32" else difference.mean() < 0.1
