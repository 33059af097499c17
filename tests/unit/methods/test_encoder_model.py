from __future__ import annotations

import pytest
import torch

from sortal.backbone import encoders, loading, row_gradients
from sortal.backbone.lora import trainable
from sortal.backbone.packing import pack
from sortal.config import build_config
from sortal.methods import encoder_model
from sortal.methods.encoder_model import EncoderModel
from sortal.training.loop import make_optimizer

LENGTHS = (9, 3, 40, 5, 4, 38, 9, 2)


def network(base, *, own, **settings):
    torch.manual_seed(0)
    config = loading.load_config(str(base))
    config.num_labels = 3
    encoders.set_dropout(config, settings.pop("dropout", 0.0))
    whole = encoders.load_body(str(base), config)
    if own:
        whole = encoders.with_own_head(whole, config)
    model = EncoderModel(whole, 3, config.pad_token_id, own=own, dtype=torch.float32)
    model.tune(build_config({"method": "encoder", **settings}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("score.") or "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model


def rows(*lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, 60, (n,), generator=generator).tolist() for n in lengths]


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert", "distilbert"])
@pytest.mark.parametrize("own", [True, False])
def test_a_pack_of_any_lengths_gives_what_each_text_gives_alone(tiny_encoders, family, own):
    model, texts = network(tiny_encoders[family], own=own), rows(*LENGTHS)
    together = pack(texts)
    assert len(together.groups) > 1, "several rectangles, whose order is not the texts'"
    with torch.inference_mode():
        found = model(together)
        for text, logits in zip(texts, found, strict=True):
            out = model.whole(input_ids=torch.tensor([text]))
            plain = out.logits if own else model.score(out.last_hidden_state.mean(1))
            torch.testing.assert_close(logits, plain[0], rtol=1e-5, atol=1e-5)
    assert (found[0] - found[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("own", [True, False])
def test_all_weights_are_trained_and_the_head_faster(tiny_encoders, own):
    model = network(tiny_encoders["bert"], own=own)
    parameters = trainable(model)
    assert len(parameters) == len(list(model.parameters()))
    assert {name.split(".")[0] for name in parameters} == {"body", "score"}
    body, score = make_optimizer(parameters, build_config({"method": "encoder"})).param_groups
    assert (body["lr"], score["lr"]) == (5e-5, 1e-3)
    assert {id(p) for p in score["params"]} == {id(p) for p in model.score.parameters()}
    model(pack(rows(*LENGTHS))).pow(2).sum().backward()
    unread = [name for name, p in parameters.items() if p.grad is None]
    assert unread == []


def test_adapters_are_trained_over_frozen_weights_and_merged(tiny_encoders):
    model, texts = network(tiny_encoders["bert"], own=True, tuning="lora"), pack(rows(*LENGTHS))
    names = list(trainable(model))
    assert all("lora_" in name or name.startswith("score.") for name in names)
    assert sum("lora_A" in name for name in names) == 12, "six linear layers in each of two"
    with torch.inference_mode():
        before = model(texts)
        assert model.merge()
        torch.testing.assert_close(model(texts), before, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name for name, _ in model.named_parameters())
    assert not model.merge()


def test_products_in_bfloat16_leave_weights_and_logits_in_float32(tiny_encoders):
    model, texts = network(tiny_encoders["sentence"], own=False), pack(rows(*LENGTHS))
    with torch.inference_mode():
        exact = model(texts)
        model.dtype = torch.bfloat16
        rounded = model(texts)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1 * exact.abs().max()
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_dropout_is_off_until_training(tiny_encoders):
    model, texts = network(tiny_encoders["bert"], own=True, dropout=0.5), pack(rows(*LENGTHS))
    with torch.inference_mode():
        assert torch.equal(model(texts), model(texts))
        model.train()
        assert not torch.equal(model(texts), model(texts))


def gradients(model, *packs):
    model.zero_grad(set_to_none=True)
    for texts in packs:
        model(texts).pow(2).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert", "distilbert"])
def test_embeddings_add_to_their_gradients_row_by_row(tiny_encoders, family, monkeypatch):
    plain = network(tiny_encoders[family], own=False)
    monkeypatch.setattr(row_gradients, "_ROWS", 8)
    model = network(tiny_encoders[family], own=False)
    replaced = [m for m in model.modules() if isinstance(m, torch.nn.Embedding) and "forward" in vars(m)]
    assert replaced
    packs = pack(rows(*LENGTHS)), pack(rows(7, 3))
    expected, found = gradients(plain, *packs), gradients(model, *packs)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
    for embedding in replaced:
        if embedding.padding_idx is not None:
            assert not embedding.weight.grad[embedding.padding_idx].any()
    with torch.inference_mode():
        assert model(packs[0]).equal(plain(packs[0]))


def test_small_frozen_or_unusual_embeddings_keep_torchs_way():
    kinds = {
        "large": torch.nn.Embedding(5000, 4),
        "small": torch.nn.Embedding(50, 4),
        "sparse": torch.nn.Embedding(5000, 4, sparse=True),
        "frozen": torch.nn.Embedding(5000, 4).requires_grad_(False),
    }
    model = torch.nn.ModuleDict(kinds)
    row_gradients.add_rows(model)
    assert [name for name, module in kinds.items() if "forward" in vars(module)] == ["large"]


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "distilbert"])
def test_short_texts_are_learned_from_without_fused_attention_and_alike(tiny_encoders, family, monkeypatch):
    model = network(tiny_encoders[family], own=False)
    config, used = model.whole.config, []
    forward = model.whole.forward

    def noted(**inputs):
        used.append((inputs["input_ids"].shape[1], config._attn_implementation))
        return forward(**inputs)

    monkeypatch.setattr(model.whole, "forward", noted)
    texts = pack(rows(*LENGTHS))
    plain = gradients(model, texts)
    assert used
    assert {name for _, name in used} == {"eager"}
    monkeypatch.setattr(encoder_model, "_FUSED_ABOVE", 20)  # the longest has 40
    used.clear()
    fused = gradients(model, texts)
    assert {name for _, name in used} == {"sdpa"}
    for name, gradient in fused.items():
        # Entries in which large terms cancel keep the terms' rounding, which another processor does otherwise.
        rounding = max(1e-5, 2e-6 * gradient.abs().max().item())
        torch.testing.assert_close(plain[name], gradient, rtol=1e-4, atol=rounding, msg=name)
    gradients(model, pack(rows(9, 3)))
    assert config._attn_implementation == "eager", "until the next pack"
    used.clear()
    with torch.inference_mode():
        model(pack(rows(9, 3)))
    assert {name for _, name in used} == {"sdpa"}
