from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.backbone.packing import length_groups, microbatches, pack

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def _sequences(sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 1000, n).tolist() for n in sizes]


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 6))
def test_groups_cover_every_token_once_and_inverse_restores_the_order(sizes, max_groups):
    rows = _sequences(sizes)
    packed = pack(rows, max_groups)
    flat = packed.input_ids[0]
    assert flat.tolist() == [token for row in rows for token in row]
    assert len(packed.groups) <= max_groups
    positions = torch.cat([g.positions for g in packed.groups])
    assert sorted(positions.tolist()) == list(range(sum(sizes)))
    cells = torch.cat([flat[g.gather][g.scatter] for g in packed.groups])
    assert cells[packed.inverse].tolist() == flat.tolist()


@settings(max_examples=60, deadline=None)
@given(lengths)
def test_every_group_row_holds_one_whole_example_from_its_first_token_on(sizes):
    packed = pack(_sequences(sizes))
    borders = packed.cu_seqlens.tolist()
    seen = []
    for group in packed.groups:
        real = torch.zeros(group.rows * group.width, dtype=torch.bool)
        real[group.scatter] = True
        cells = group.gather.view(group.rows, group.width)
        for row, mask in zip(cells, real.view(group.rows, group.width), strict=True):
            example = borders.index(int(row[0]))
            seen.append(example)
            assert row[mask].tolist() == list(range(borders[example], borders[example + 1]))
            assert set(row[~mask].tolist()) <= {int(row[0])}
            assert mask.tolist() == sorted(mask.tolist(), reverse=True), "padding is on the right"
    assert sorted(seen) == list(range(len(sizes)))


@settings(max_examples=40, deadline=None)
@given(lengths)
def test_last_points_at_final_tokens_and_positions_restart(sizes):
    rows = _sequences(sizes)
    packed = pack(rows)
    assert packed.input_ids[0, packed.last].tolist() == [row[-1] for row in rows]
    assert packed.position_ids[0].tolist() == [i for n in sizes for i in range(n)]
    assert packed.cu_seqlens.tolist() == [0, *np.cumsum(sizes).tolist()]
    assert packed.cu_seqlens.dtype == torch.int32
    assert (packed.max_length, packed.tokens) == (max(sizes), sum(sizes))


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 6))
def test_length_groups_partition_and_never_enlarge_the_padded_area(sizes, max_groups):
    array = np.array(sizes)
    groups = length_groups(array, max_groups)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(sizes)))

    def area(sets):
        return sum(len(s) * int(array[s].max()) ** 2 for s in sets)

    assert area(groups) <= area([np.arange(len(sizes))])


def test_one_long_example_does_not_widen_the_short_ones():
    groups = length_groups(np.array([5] * 30 + [200]), 4)
    assert [len(g) for g in groups] == [30, 1]


def test_equal_lengths_stay_one_rectangle():
    assert len(length_groups(np.full(50, 7), 4)) == 1


@pytest.mark.parametrize("rows", [[], [[1, 2], []]])
def test_an_empty_sequence_has_no_final_token_and_is_refused(rows):
    with pytest.raises(ValueError, match="at least one token"):
        pack(rows)


def test_to_moves_every_tensor():
    moved = pack(_sequences([3, 9, 4])).to("meta")
    tensors = [moved.input_ids, moved.position_ids, moved.cu_seqlens, moved.last, moved.inverse]
    tensors += [t for g in moved.groups for t in (g.gather, g.scatter, g.positions)]
    assert {t.device.type for t in tensors} == {"meta"}


@settings(max_examples=80, deadline=None)
@given(lengths, st.integers(1, 120))
def test_microbatches_cover_all_and_respect_the_budget_except_for_single_long_ones(sizes, budget):
    parts = list(microbatches(sizes, budget))
    assert sorted(i for part in parts for i in part) == list(range(len(sizes)))
    for part in parts:
        assert part
        assert len(part) == 1 or sum(sizes[i] for i in part) <= budget


@given(lengths, st.integers(1, 120))
def test_microbatches_are_sorted_by_length_and_as_few_as_that_order_allows(sizes, budget):
    parts = list(microbatches(sizes, budget))
    order = [sizes[i] for part in parts for i in part]
    assert order == sorted(order)
    for before, after in itertools.pairwise(parts):
        assert sum(sizes[i] for i in before) + sizes[after[0]] > budget


def test_no_examples_give_no_microbatch():
    assert list(microbatches([], 100)) == []
