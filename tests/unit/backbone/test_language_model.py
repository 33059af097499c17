from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface, AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sortal.backbone import attention, language_model, loading, native, native_products
from sortal.backbone.language_model import LanguageModel, enable_trees
from sortal.backbone.lora import add_lora
from sortal.backbone.trees import Memory, TreeRow, tree_pack
from sortal.config import build_config
from sortal.errors import ModelError
from tiny_runs import FAMILIES, random_rows

PROMPT = np.array([5, 17, 200, 33, 90, 41, 8, 77])
NOTHING = np.zeros(0, np.int64)
SHAPE = {
    "vocab_size": 90,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "pad_token_id": None,
}
# The models whose own forward changes the logits after the projection; Gemma 2 caps attention logits too.
TRANSFORMED = {
    "gemma2": lambda: Gemma2Config(
        **SHAPE,
        sliding_window=6,
        final_logit_softcapping=0.5,
        attn_logit_softcapping=0.7,
        query_pre_attn_scalar=4,
    ),
    "cohere": lambda: CohereConfig(**{k: v for k, v in SHAPE.items() if k != "head_dim"}, logit_scale=0.3),
    "granite": lambda: GraniteConfig(
        **{k: v for k, v in SHAPE.items() if k != "head_dim"},
        logits_scaling=3.0,
        residual_multiplier=0.7,
        embedding_multiplier=2.0,
        attention_multiplier=0.4,
    ),
}


def _base(folder):
    config = loading.load_config(str(folder))
    return loading.load_language_model(str(folder), config, dtype=torch.float32, device=torch.device("cpu"))


def _made(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(TRANSFORMED[name]()).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(10.0)
    return model


@pytest.fixture(scope="module")
def plain(tiny_models):
    """Models as transformers loads them, none of their settings touched by any test."""
    return {family: LanguageModel(_base(folder), shares=False) for family, folder in tiny_models.items()}


def _own_logits(model, ids):
    """The model's own forward on one sequence, ``[tokens, vocabulary]``."""
    with torch.inference_mode():
        return model(input_ids=torch.as_tensor(ids)[None], use_cache=False).logits[0].float()


def _states(n, seed=0):
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(seed))


# log-probabilities


@pytest.mark.parametrize("family", FAMILIES)
def test_token_logprobs_are_those_of_the_models_own_forward(plain, family):
    model = plain[family]
    (ids,) = random_rows(20)
    with torch.inference_mode():
        states = model.states([TreeRow(np.array(ids))], NOTHING)
        found = model.token_logprobs(states[:-1], torch.tensor(ids[1:]))
    expected = _own_logits(model.inner, ids).log_softmax(-1)[torch.arange(19), ids[1:]]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(TRANSFORMED))
def test_logits_get_every_transform_that_the_models_own_forward_applies(name):
    """Soft caps and scales after the projection; also enough for sharing prompts under capped attention logits."""
    inner = _made(name)
    (ids,) = random_rows(12, vocabulary=90)
    model = LanguageModel(inner, shares=False)
    expected = _own_logits(inner, ids)
    with torch.inference_mode():
        states = model.states([TreeRow(np.array(ids))], NOTHING)
        torch.testing.assert_close(model.logits(states), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            model.token_logits(states, [7, 3]), expected[:, [7, 3]], rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(model.logits_of(states, [7, 3]), expected[:, [7, 3]], rtol=1e-5, atol=1e-5)
        untouched = inner.get_output_embeddings()(states)
        assert not torch.allclose(untouched, expected, rtol=1e-2), "the transform does something"
        inner.set_attn_implementation("eager")
        rows = [TreeRow(np.array(ids)), TreeRow(np.array(ids[3:8]))]
        alone = model.states(rows, PROMPT % 90)
        assert enable_trees(inner)
        shared = LanguageModel(inner, shares=True).states(rows, PROMPT % 90)
    torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), chunk=st.integers(1, 13), seed=st.integers(0, 9))
def test_values_and_gradients_do_not_depend_on_the_chunk(plain, n, chunk, seed):
    model = plain["llama"]
    states, same = _states(n, seed).requires_grad_(), _states(n, seed).requires_grad_()
    targets = torch.randint(0, 258, (n,), generator=torch.Generator().manual_seed(seed))
    weights = _states(n, seed + 1)[:, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model, "LOGIT_ROWS", chunk)
        found = model.token_logprobs(states, targets)
        (found * weights).sum().backward()
    expected = model.inner.lm_head(same).log_softmax(-1)[torch.arange(n), targets]
    (expected * weights).sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(states.grad, same.grad, rtol=1e-4, atol=1e-6)


def test_no_more_than_a_chunk_of_positions_has_logits_at_one_time(plain, monkeypatch):
    """S17."""
    model = plain["llama"]
    monkeypatch.setattr(language_model, "LOGIT_ROWS", 4)
    sizes = []
    head = model.inner.get_output_embeddings()
    counting = head.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    model.token_logprobs(_states(10), torch.arange(10))
    model.edge_logprobs(_states(10), torch.arange(10), torch.arange(10))
    counting.remove()
    assert sizes == [4, 4, 2] * 2


@pytest.mark.parametrize(
    "name", ["llama", "gemma2"]
)  # one whose logits are those of its projection, and one that caps them
def test_edges_have_the_same_log_probabilities_with_compiled_kernels_and_without(plain, monkeypatch, name):
    inner = copy.deepcopy(plain["llama"].inner) if name == "llama" else _made(name)
    model = LanguageModel(inner.bfloat16(), shares=False)
    states, parents = _states(10)[:, : inner.config.hidden_size].bfloat16(), torch.tensor([0, 0, 3, 3, 3, 9])
    tokens = torch.tensor([5, 9, 0, 17, 80, 3])
    with torch.inference_mode():
        found = model.edge_logprobs(states, parents, tokens)
        exact = model.logits(states).double().log_softmax(-1)[parents, tokens]
        monkeypatch.setattr(native, "ready", lambda *t: False)
        other = model.edge_logprobs(states, parents, tokens)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=3e-5)
    torch.testing.assert_close(other.double(), exact, rtol=0, atol=3e-5)


@pytest.mark.skipif(not native_products.there(), reason="no tile unit (AMX), or no C compiler")
def test_a_vocabulary_that_fills_tiles_is_packed_once_and_anew_for_other_weights(plain, monkeypatch):
    inner = copy.deepcopy(plain["llama"].inner).bfloat16()
    inner.resize_token_embeddings(288)
    inner.requires_grad_(False)
    model, states = LanguageModel(inner, shares=False), _states(10).bfloat16()
    parents, tokens = torch.arange(10), torch.arange(10) * 30
    packings, packed = [], native_products.packed
    monkeypatch.setattr(native_products, "packed", lambda weight: packings.append(1) or packed(weight))
    for _ in range(2):
        with torch.inference_mode():
            found = [model.edge_logprobs(states, parents, tokens) for _ in range(2)]
            exact = model.logits(states).double().log_softmax(-1)[parents, tokens]
        for ours in found:
            torch.testing.assert_close(ours.double(), exact, rtol=0, atol=3e-5)
        head = inner.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach() * 3, requires_grad=False)
    assert len(packings) == 2
    LanguageModel(inner, shares=False).edge_logprobs(
        states, parents, tokens
    )  # the first time with the third weight
    LanguageModel(inner, shares=False).edge_logprobs(states, parents, tokens)  # which another model has, too
    assert len(packings) == 3
    with torch.no_grad():
        head.weight.requires_grad_(True).mul_(2)
        found = model.edge_logprobs(states, parents, tokens)
        exact = model.logits(states).double().log_softmax(-1)[parents, tokens]
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=3e-5)


def test_token_logprobs_without_a_gradient_keep_no_graph(plain):
    found = plain["llama"].token_logprobs(_states(3), torch.arange(3))
    assert not found.requires_grad


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 9),
    parents=st.lists(st.integers(0, 8), max_size=20).map(sorted),
    chunk=st.integers(1, 10),
    seed=st.integers(0, 9),
)
def test_edge_logprobs_look_tokens_up_below_their_parents(plain, n, parents, chunk, seed):
    """States without edges, with one and with many, on every side of a chunk's border."""
    model = plain["llama"]
    parents = torch.tensor([p for p in parents if p < n], dtype=torch.long)
    tokens = torch.randint(0, 258, (len(parents),), generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(language_model, "LOGIT_ROWS", chunk)
        found = model.edge_logprobs(_states(n), parents, tokens)
        expected = model.inner.lm_head(_states(n)).log_softmax(-1)[parents, tokens]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_token_logits_are_columns_of_all_logits_and_carry_gradients(tiny, bias):
    model = LanguageModel(_base(tiny), shares=False)
    if bias:
        model.inner.lm_head.bias = torch.nn.Parameter(_states(9, 5).flatten()[:258])
    states, same = _states(6).requires_grad_(), _states(6).requires_grad_()
    found, expected = model.token_logits(states, (40, 3)), model.logits(same)[:, [40, 3]]
    assert found.dtype == torch.float32
    (found[:, 0] - found[:, 1]).sum().backward()
    (expected[:, 0] - expected[:, 1]).sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(states.grad, same.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_logits_of_a_few_tokens_are_rounded_as_all_logits_are(tiny, bias):
    """Two answers that are nearly as likely must not change places with the number of logits that are computed."""
    model = LanguageModel(_base(tiny).bfloat16(), shares=False)
    if bias:
        model.inner.lm_head.bias = torch.nn.Parameter(_states(9, 5).flatten()[:258].bfloat16())
    states = _states(6).bfloat16()
    with torch.inference_mode():
        found, expected = model.logits_of(states, (40, 3)), model.logits(states)[:, [40, 3]]
        finer = model.token_logits(states, (40, 3))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.equal(finer, expected)


# states


@pytest.mark.parametrize("family", FAMILIES)
def test_without_sharing_every_token_has_the_state_of_its_own_path(plain, family):
    visible = np.tri(7, dtype=bool)
    visible[4:, 2:4] = False  # tokens 2, 3 and 4, 5 are two branches below 1
    visible[6, 4:6] = False  # token 6 is a third
    tree = TreeRow(np.array(random_rows(7)[0]), np.array([0, 1, 2, 3, 2, 3, 2]), visible)
    chain = TreeRow(np.array(random_rows(1, 30)[1]))
    model = plain[family]
    with torch.inference_mode():
        found = model.states([tree, chain], PROMPT)
        base = getattr(model.inner, model.inner.base_model_prefix)
        expected = []
        for row, seen in ((tree, visible), (chain, np.tri(30, dtype=bool))):
            for i in range(len(row.ids)):
                ids = torch.from_numpy(np.concatenate([PROMPT, row.ids[seen[i]]]))[None]
                expected.append(base(input_ids=ids, use_cache=False).last_hidden_state[0, -1])
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_kept_tokens_need_a_model_that_shares(plain):
    row = TreeRow(np.array([4, 5]), kept=np.array([0]))
    with pytest.raises(ValueError, match="need a model that shares"):
        plain["llama"].states([row], PROMPT)


def test_an_empty_prompt_is_remembered_as_nothing(tiny):
    base = _base(tiny)
    assert enable_trees(base)
    memory = LanguageModel(base, shares=True).remember(NOTHING)
    assert (memory.prompt_tokens, memory.tokens, memory.prompt) == (0, 0, {})


def test_adapters_are_seen_through_and_nothing_is_registered_twice(tiny):
    base = _base(tiny)
    model = LanguageModel(add_lora(base, build_config({"dtype": "float32"})), shares=False)
    assert model.inner is base
    assert all(name.startswith("model.base_model.") for name in model.state_dict())
    assert model.device.type == "cpu"


# whether a model shares


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_shares_prompts(tiny_models, family):
    base = _base(tiny_models[family])
    assert enable_trees(base) is True
    assert base.config._attn_implementation == attention.NAME


def test_a_model_that_changes_its_logits_unknown_to_us_is_refused(tiny, monkeypatch):
    base = _base(tiny)
    real = base.forward

    def forward(*args, **kwargs):
        out = real(*args, **kwargs)
        out.logits = out.logits * 1.5
        return out

    monkeypatch.setattr(base, "forward", forward)
    with pytest.raises(ModelError, match="LlamaForCausalLM changes its logits in a way Sortal does not know"):
        enable_trees(base)
    assert base.config._attn_implementation != attention.NAME


def _causal(module, query, key, value, attention_mask, **kwargs):
    """Attention that never heard of packs: every token sees all before it."""
    kwargs.pop("sortal_pack", None)
    kwargs.pop("is_causal", None)
    return sdpa_attention_forward(module, query, key, value, None, is_causal=True, **kwargs)


def _unmoved(rows, prompt=(), memory=None):
    """A pack whose positions run on, as in models that count tokens themselves."""
    pack = tree_pack(rows, prompt, memory)
    pack.position_ids.copy_(torch.arange(pack.tokens)[None])
    return pack


def _without_branches(rows, prompt=(), memory=None):
    chains = [TreeRow(row.ids, row.depth) for row in rows]
    return tree_pack(chains, prompt, memory)


def _without_depth(rows, prompt=(), memory=None):
    return tree_pack([TreeRow(row.ids, None, row.visible) for row in rows], prompt, memory)


def _raise(*args, **kwargs):
    raise TypeError("unexpected keyword argument 'sortal_pack'")


@pytest.mark.parametrize("before", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("name", "spoilt"),
    [
        ("attention", _causal),
        ("tree_pack", _unmoved),
        ("tree_pack", _without_branches),
        ("tree_pack", _without_depth),
        ("packed_states", _raise),
    ],
)
def test_a_model_that_ignores_the_pack_or_part_of_it_does_not_share(tiny, monkeypatch, name, spoilt, before):
    base = _base(tiny)
    base.set_attn_implementation(before)
    expected = _own_logits(base, PROMPT)
    if name == "attention":
        monkeypatch.setitem(AttentionInterface._global_mapping, attention.NAME, spoilt)
    else:
        monkeypatch.setattr(language_model, name, spoilt)
    assert enable_trees(base) is False
    assert base.config._attn_implementation == before
    torch.testing.assert_close(_own_logits(base, PROMPT), expected)


def test_a_model_without_exchangeable_attention_is_left_alone(tiny, monkeypatch):
    base = _base(tiny)
    before = base.config._attn_implementation
    monkeypatch.setattr(type(base.model), "_supports_attention_backend", False)
    monkeypatch.setattr(base, "set_attn_implementation", _raise)
    assert enable_trees(base) is False
    assert base.config._attn_implementation == before


def test_the_prompt_of_a_memory_is_counted_once_it_is_computed(tiny):
    base = _base(tiny)
    assert enable_trees(base)
    model = LanguageModel(base, shares=True)
    memory = Memory()
    with torch.inference_mode():
        model.states([TreeRow(np.array([9, 8, 7]))], PROMPT, memory)
        later = model.states([TreeRow(np.array([6, 5]))], NOTHING, memory)
        expected = model.states([TreeRow(np.array([6, 5]))], PROMPT)
    assert memory.prompt_tokens == len(PROMPT)
    torch.testing.assert_close(later, expected, rtol=1e-4, atol=1e-5)
