from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import LlamaConfig

from sortal import planning
from sortal.backbone import hub
from sortal.backbone.packing import pack
from sortal.cli.main import main
from sortal.config import build_config
from sortal.errors import ConfigError
from sortal.methods.head_model import tunable
from sortal.methods.rehearsal import Network
from sortal.training.held_bytes import HeldBytes
from sortal.training.step_memory import Shape
from tiny_runs import classifier, rows, write_csv

CPU = torch.device("cpu")
# The published shape of Llama-3.1-8B.
EIGHT_B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip


def silent(line):
    pass


@pytest.fixture
def data(tmp_path):
    return write_csv(tmp_path / "d.csv", rows(60))


def planned(data, model, **settings):
    return planning.plan(build_config({"data": str(data), "model": str(model), **settings}), say=silent)


@pytest.mark.parametrize("method", ["head", "instruct"])
def test_a_plan_needs_config_and_tokenizer_and_no_weights(data, tiny, tmp_path, method):
    whole = planned(data, tiny, method=method, epochs=2)
    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    found = planned(data, bare, method=method, epochs=2)
    assert (found.tokens_per_epoch, found.fits, found.steps) == (
        whole.tokens_per_epoch,
        whole.fits,
        whole.steps,
    )
    assert (found.shared_tokens > 0) == (method == "instruct")
    assert 0 < found.seconds[0] < found.seconds[1]


def test_an_encoder_has_a_plan_too(data, tiny_encoders):
    found = planned(data, tiny_encoders["sentence"], method="encoder")
    assert list(found.fits) == ["none"]
    assert found.trained_bytes == 3 * found.weight_bytes, "gradients and two moments, all in fp32"


@pytest.mark.parametrize("method", ["probe", "tfidf"])
def test_what_has_no_steps_has_no_plan(data, tiny, method):
    with pytest.raises(ConfigError, match="not tuned in steps"):
        planning.plan(build_config({"data": str(data), "method": method}), say=silent)


def test_the_memory_of_a_step_is_that_of_the_real_network(tiny_models):
    """At another size than those it was rehearsed at."""
    for family in ("llama", "gemma3", "gpt2"):
        model = tunable(classifier(tiny_models[family], labels=3), build_config({}))
        network = Network("head", model.inner.config, build_config({}), torch.float32, CPU)
        batch = pack([[5] * 48] * 30)
        model(batch).sum().backward()
        held = HeldBytes()
        with held:
            model(batch).logsumexp(-1).sum().backward()
        assert network.step(checkpointing=False).at(Shape(30, 48)) == pytest.approx(held.peak, rel=0.05), (
            family
        )


def eight_b(**settings):
    shape = LlamaConfig(**EIGHT_B)
    shape.num_labels, shape.pad_token_id = 100, 0
    return Network("head", shape, build_config(settings), torch.bfloat16, torch.device("cuda"))


def test_eight_billion_parameters_in_four_bits_are_tuned_in_eight_gigabytes_with_checkpointing():
    network = eight_b(quantization="nf4")
    weights, trained = network.weights()
    assert weights == pytest.approx(3.6e9 + 1.05e9, rel=0.02), "4 bits and their scales; embeddings in 16"
    assert trained == pytest.approx(16 * 21e6, rel=0.05), "21 M adapter parameters of rank 8"
    assert network.linear_parameters == pytest.approx(6.98e9, rel=0.01)
    shape = Shape(16, 128)
    step = network.step(checkpointing=True).at(shape)
    assert weights + trained + step < 8e9 - 0.6e9
    assert network.step(checkpointing=False).at(shape) > 3 * step


def test_on_80_gigabytes_a_microbatch_is_large_enough_for_de_quantising_to_cost_little():
    network = eight_b(quantization="nf4")
    room = planning._Room(network, longest=512, prompt=0, batch_size=16)
    fit = room.fit(80e9 - planning._CONTEXT - room.weights[0])
    assert 12_000 < fit.max_tokens < 16_000
    assert not fit.checkpointing
    step = network.plain.of_tokens(16 * 512, 512)
    workspaces = fit.peak_bytes - sum(room.weights) - step
    assert 0 <= workspaces < 0.1e9, (
        "the peak is that of the steps of 16 texts, and not of all that is allowed"
    )


def test_adapters_on_the_top_layers_keep_less():
    plain, top = eight_b().step(checkpointing=False), eight_b(lora_top_layers=8).step(checkpointing=False)
    assert top.at(Shape(16, 128)) < 0.3 * plain.at(Shape(16, 128))


def test_of_a_model_on_the_hub_no_weights_are_fetched(data, tiny, monkeypatch):
    asked = []

    def fetch(repo, revision, say, *, trust_remote_code=False, weights=True):
        asked.append((repo, weights))
        return hub.Snapshot(tiny, "0" * 40, None)

    monkeypatch.setattr(hub, "fetch", fetch)
    assert planned(data, "org/name").rows == 45
    assert asked == [("org/name", False)]


def test_the_command_shows_it_and_ends_in_json(data, tiny, capsys):
    assert main(["plan", str(data), "--model", str(tiny), "--set", "max_tokens=300", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out.splitlines()[-1])
    assert found["here"]["max_tokens"] == 300
    assert found["fits"]["nf4"]["8"]["checkpointing"] is False
    assert "tokens in a microbatch, by GPU memory" in shown.err
    assert "this machine (cpu): 300, peak" in shown.err


def test_without_data_it_says_how_to_give_some(capsys):
    assert main(["plan"]) == 2
    assert "write sortal plan FILE" in capsys.readouterr().err
