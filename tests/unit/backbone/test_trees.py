from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.backbone import loading
from sortal.backbone.language_model import LanguageModel, enable_trees
from sortal.backbone.lora import add_lora, fuse, trainable
from sortal.backbone.trees import Memory, TreeRow, tree_pack
from sortal.config import build_config
from tiny_runs import FAMILIES, stir
from tree_rows import PROMPT, forests, tree_row

NOTHING = np.zeros(0, np.int64)


def _chain(length, seed=0):
    return TreeRow(np.random.default_rng([seed, length]).integers(2, 258, length))


def _rows():
    """Short and long, chains and trees: what a microbatch of texts with their answers can look like."""
    branches = [
        *range(-1, 7),
        7,
        8,
        9,
        7,
        11,
        11,
        13,
        7,
        3,
        16,
    ]  # at the trunk's end, deeper, and inside the trunk
    late = [*range(-1, 39), 39, 40, 41, 42, 40, 44, 39, 20, 47]
    return [
        tree_row(branches),
        _chain(1),
        _chain(60),
        tree_row(late),
        tree_row([-1, -1, 0, 1]),
        _chain(7),
        tree_row([-1]),
    ]


def _base(folder):
    config = loading.load_config(str(folder))
    return loading.load_language_model(str(folder), config, dtype=torch.float32, device=torch.device("cpu"))


def _sharing(base):
    assert enable_trees(base)
    return base


def _eager(base):
    base.set_attn_implementation("eager")
    return base


@pytest.fixture(scope="module")
def models(tiny_models):
    """By family: the model that shares prompts, and one that computes every path as a sequence of its own."""
    return {
        family: (
            LanguageModel(_sharing(_base(folder)), shares=True),
            LanguageModel(_eager(_base(folder)), shares=False),
        )
        for family, folder in tiny_models.items()
    }


# packs


def _seen(pack):
    """By position in the pack: which positions of ``[memory | pack]`` its group lets each row token see."""
    found = {}
    for group in pack.groups:
        cells, width = group.cells, group.cells.width
        keys = cells.gather if group.key_gather is None else group.key_gather
        visible = (
            torch.ones(width, width, dtype=torch.bool).tril() if group.visible is None else group.visible
        )
        visible = visible.expand(cells.rows, width, group.keys)
        for cell, position in zip(cells.scatter.tolist(), cells.positions.tolist(), strict=True):
            row, column = divmod(cell, width)
            own = keys.view(cells.rows, group.keys)[row][visible[row, column]].tolist()
            assert len(own) == len(set(own))
            found[position] = set(own)
    return found


@settings(max_examples=60, deadline=None)
@given(forests, st.integers(0, 5), st.integers(1, 5), st.data())
def test_a_token_sees_exactly_its_ancestors_whatever_stands_beside_it(shapes, prompt, max_groups, data):
    memory = Memory(positions=torch.arange(20))
    rows = []
    for shape in shapes:
        row = tree_row(shape)
        match data.draw(st.sampled_from(["tree", "chain", "kept", "kept chain"])):
            case "chain":
                row = TreeRow(row.ids)
            case "kept":
                kept = np.array(data.draw(st.lists(st.integers(0, 19), max_size=4, unique=True)), np.int64)
                before = np.random.default_rng(len(kept)).random((len(row.ids), len(kept))) < 0.5
                row = TreeRow(row.ids, row.depth, np.concatenate([before, row.visible], axis=1), kept)
            case "kept chain":
                row = TreeRow(row.ids, kept=np.array([3, 11]))
        rows.append(row)
    pack = tree_pack(rows, PROMPT[:prompt], memory, max_groups)
    seen = _seen(pack)
    assert sorted(seen) == list(range(prompt, pack.tokens))
    for row, start in zip(rows, pack.starts, strict=False):
        kept = NOTHING if row.kept is None else row.kept
        m = len(row.ids)
        visible = row.visible
        if visible is None:
            visible = np.concatenate([np.ones((m, len(kept)), bool), np.tri(m, dtype=bool)], axis=1)
        places = np.concatenate([kept, 20 + start + np.arange(m)])
        for i in range(m):
            assert seen[start + i] == set(places[visible[i]].tolist())


@settings(max_examples=60, deadline=None)
@given(forests, st.integers(0, 5), st.integers(0, 9), st.integers(1, 5))
def test_the_prompt_comes_first_and_rows_continue_its_positions(shapes, prompt, kept, max_groups):
    if prompt:
        kept = 0
    rows = [tree_row(shape, seed) for seed, shape in enumerate(shapes)]
    pack = tree_pack(rows, PROMPT[:prompt], Memory(prompt_tokens=kept), max_groups)
    ids, positions = pack.input_ids[0].numpy(), pack.position_ids[0].numpy()
    assert ids[:prompt].tolist() == PROMPT[:prompt].tolist()
    assert positions[:prompt].tolist() == list(range(prompt))
    assert pack.prompt_tokens == prompt
    assert len(pack.starts) == len(rows) + 1
    assert pack.starts[-1] == pack.tokens == len(ids)
    for row, (start, end) in zip(rows, pairwise(pack.starts), strict=True):
        assert ids[start:end].tolist() == row.ids.tolist()
        assert positions[start:end].tolist() == (prompt + kept + row.depth).tolist()


@settings(max_examples=60, deadline=None)
@given(forests, st.integers(0, 5), st.integers(1, 5))
def test_inverse_brings_the_groups_back_into_pack_order(shapes, prompt, max_groups):
    pack = tree_pack([tree_row(shape) for shape in shapes], PROMPT[:prompt], max_groups=max_groups)
    assert 1 <= len(pack.groups) <= max_groups
    cells = torch.cat([g.cells.gather[g.cells.scatter] for g in pack.groups])
    assert cells[pack.inverse].tolist() == list(range(prompt, pack.tokens))


def test_chains_alone_need_no_mask():
    pack = tree_pack([_chain(5), _chain(4)])
    assert pack.position_ids[0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert all(group.visible is None and group.key_gather is None for group in pack.groups)


def test_a_pack_can_be_the_prompt_alone():
    pack = tree_pack([], PROMPT)
    assert (pack.groups, pack.prompt_tokens, pack.tokens) == ((), len(PROMPT), len(PROMPT))


def test_an_empty_row_has_no_state_and_is_refused():
    with pytest.raises(ValueError, match="empty row"):
        tree_pack([_chain(3), TreeRow(NOTHING)], PROMPT)


def test_a_prompt_that_is_in_memory_cannot_be_given_again():
    with pytest.raises(ValueError, match="in memory already"):
        tree_pack([_chain(3)], PROMPT, Memory(prompt_tokens=4))


def test_to_moves_every_tensor_and_keeps_the_memory():
    memory = Memory()
    moved = tree_pack([tree_row([-1, 0, 0]), _chain(40)], PROMPT, memory).to("meta")
    tensors = [moved.input_ids, moved.position_ids, moved.inverse]
    for group in moved.groups:
        tensors += [group.cells.gather, group.cells.scatter, group.cells.positions]
        tensors += [t for t in (group.key_gather, group.visible) if t is not None]
    assert {t.device.type for t in tensors} == {"meta"}
    assert moved.memory is memory


# states


@pytest.mark.parametrize("family", FAMILIES)
def test_the_states_of_a_tree_are_those_of_separate_sequences(models, family):
    sharing, alone = models[family]
    rows = _rows()
    assert len(tree_pack(rows, PROMPT).groups) > 1
    with torch.inference_mode():
        found, expected = sharing.states(rows, PROMPT), alone.states(rows, PROMPT)
    assert found.shape == (sum(len(row.ids) for row in rows), 32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_need_no_prompt(models, family):
    sharing, alone = models[family]
    with torch.inference_mode():
        found, expected = sharing.states(_rows(), NOTHING), alone.states(_rows(), NOTHING)
        kept = sharing.states(_rows(), NOTHING, sharing.remember(NOTHING))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(shapes=forests, prompt=st.integers(0, 13), family=st.sampled_from(FAMILIES))
def test_any_tree_is_the_same_as_its_paths(models, shapes, prompt, family):
    sharing, alone = models[family]
    rows = [tree_row(shape, seed) for seed, shape in enumerate(shapes)]
    with torch.inference_mode():
        found, expected = sharing.states(rows, PROMPT[:prompt]), alone.states(rows, PROMPT[:prompt])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_remembered_prompt_serves_any_number_of_packs(models, family):
    sharing, _ = models[family]
    with torch.inference_mode():
        memory = sharing.remember(PROMPT)
        expected = sharing.states(_rows(), PROMPT)
        for _ in range(2):
            torch.testing.assert_close(
                sharing.states(_rows(), NOTHING, memory), expected, rtol=1e-4, atol=1e-5
            )
        one = sharing.states(_rows()[:1], NOTHING, memory)
    torch.testing.assert_close(one, expected[: len(one)], rtol=1e-4, atol=1e-5)
    assert memory.tokens == 0
    assert memory.prompt_tokens == len(PROMPT)


def _stages(rows, cuts, memory, compute):
    """Compute every row's tokens ``[0:cut), [cut:next cut) …`` pack after pack; the states in row order."""
    states = [[] for _ in rows]
    kept = [NOTHING for _ in rows]
    for low, high in pairwise([0, *cuts, 10**6]):
        part = [(i, row) for i, row in enumerate(rows) if len(row.ids) > low]
        given_rows = []
        for i, row in part:
            visible = np.tri(len(row.ids), dtype=bool) if row.visible is None else row.visible
            depth = np.arange(len(row.ids)) if row.depth is None else row.depth
            now = slice(low, high)
            given_rows.append(TreeRow(row.ids[now], depth[now], visible[now, :high], kept[i]))
        slot = memory.tokens
        found = compute(given_rows)
        lengths = [len(row.ids) for row in given_rows]
        for (i, _), piece in zip(part, found.split(lengths), strict=True):
            states[i].append(piece)
            kept[i] = np.concatenate([kept[i], slot + np.arange(len(piece))])
            slot += len(piece)
    return torch.cat([piece for row in states for piece in row])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cuts", [[8], [1, 2, 9, 40]])
def test_a_tree_that_grows_over_several_packs_equals_one_pack(models, family, cuts):
    """Rows that are finished stay out of later packs; the others find their own tokens in memory."""
    sharing, _ = models[family]
    rows = _rows()
    with torch.inference_mode():
        memory = sharing.remember(PROMPT).with_prompt_only(grow=True)
        found = _stages(rows, cuts, memory, lambda given: sharing.states(given, NOTHING, memory))
        expected = sharing.states(rows, PROMPT)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert memory.tokens == sum(len(row.ids) for row in rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_new_rows_do_not_see_those_already_in_memory(models, family):
    """Without a mask too: chains beside a memory that holds other rows' tokens."""
    sharing, _ = models[family]
    chains = [_chain(5), _chain(9), _chain(2)]
    with torch.inference_mode():
        memory = sharing.remember(PROMPT).with_prompt_only(grow=True)
        sharing.states(_rows(), NOTHING, memory)
        found = sharing.states(chains, NOTHING, memory)
        expected = sharing.states(chains, PROMPT)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_growing_memory_leaves_the_one_it_came_from_untouched(models):
    sharing, _ = models["mistral"]
    with torch.inference_mode():
        memory = sharing.remember(PROMPT)
        growing = memory.with_prompt_only(grow=True)
        sharing.states(_rows(), NOTHING, growing)
    assert (memory.tokens, memory.rows, memory.positions) == (0, {}, None)
    assert growing.tokens == sum(len(row.ids) for row in _rows())


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_through_the_shared_prompt_are_those_of_separate_sequences(tiny_models, family):
    rows = _rows()
    direction = torch.randn(sum(len(r.ids) for r in rows), 32, generator=torch.Generator().manual_seed(2))
    gradients = []
    for base, shares in (
        (_sharing(_base(tiny_models[family])), True),
        (_eager(_base(tiny_models[family])), False),
    ):
        torch.manual_seed(0)
        model = LanguageModel(stir(add_lora(base, build_config({"dtype": "float32"}))), shares)
        if shares:
            fuse(model)
        (model.states(rows, PROMPT) * direction).sum().backward()
        gradients.append({name: p.grad for name, p in trainable(model).items()})
    found, expected = gradients
    assert found.keys() == expected.keys()
    assert len(found) == 2 * 2 * (4 if family == "gpt2" else 7)
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


# attention
