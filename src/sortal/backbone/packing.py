"""Microbatches without padding: the real tokens of several examples in one row, and how they group for attention.

Every token-wise part of the network (projections, MLP, norms) runs on the packed row ``[1, tokens]``. Only attention
needs to know which tokens belong together; it gathers them into a few small rectangles of similar length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class AttentionGroup:
    """Examples of similar length as a rectangle.

    gather: int64 ``[rows * width]``, position in the pack of every cell (padding cells repeat the row's first token).
    scatter: int64 ``[real tokens]``, cells that hold a real token, in the order of ``positions``.
    positions: int64 ``[real tokens]``, where those cells go in the pack.
    """

    rows: int
    width: int
    gather: torch.Tensor
    scatter: torch.Tensor
    positions: torch.Tensor

    def to(self, device: torch.device | str) -> AttentionGroup:
        """The same group with its tensors on ``device``."""
        moved = (self.gather.to(device), self.scatter.to(device), self.positions.to(device))
        return AttentionGroup(self.rows, self.width, *moved)


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of the tokens that every example begins with.

    tokens: how many; 0 while they are read, when the attention puts down what it sees.
    layers: of every layer by its number, ``[tokens, kv_heads, head_dim]`` each.
    """

    tokens: int = 0
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pack:
    """One microbatch of whole examples.

    input_ids, position_ids: int64 ``[1, tokens]``; positions restart at 0 with every example.
    cu_seqlens: int32 ``[examples + 1]``, cumulative lengths.
    last: int64 ``[examples]``, position in the pack of every example's final token.
    groups: rectangles for attention; ``inverse`` (int64 ``[tokens]``) brings their concatenated real cells back into pack order.
    causal: whether a token sees only those before it, or its whole example.
    below: ``[tokens, hidden]``, the states that the first tuned layer reads, where they are known (`sortal.backbone.trunk`).
    texts: int64 ``[examples]``, which of a few texts each example is a window of, 0 first and all in turn; None where each is a text.
    prefix: what stands before every example and is not in the pack (`sortal.backbone.prefix`); positions go on behind it.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    cu_seqlens: torch.Tensor
    last: torch.Tensor
    max_length: int
    groups: tuple[AttentionGroup, ...]
    inverse: torch.Tensor
    causal: bool = True
    below: torch.Tensor | None = None
    texts: torch.Tensor | None = None
    prefix: Prefix | None = None

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return int(self.input_ids.shape[1])

    @property
    def whole(self) -> bool:
        """Whether there is nothing but examples in it; see `filled`."""
        return len(self.last) == len(self.cu_seqlens) - 1

    def to(self, device: torch.device | str) -> Pack:
        """The same pack with its tensors on ``device``."""
        return Pack(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.cu_seqlens.to(device),
            self.last.to(device),
            self.max_length,
            tuple(group.to(device) for group in self.groups),
            self.inverse.to(device),
            self.causal,
            None if self.below is None else self.below.to(device),
            None if self.texts is None else self.texts.to(device),
            self.prefix,
        )


def pack(sequences: Sequence[Sequence[int]], max_groups: int = 4, *, causal: bool = True) -> Pack:
    """Pack token id sequences (none empty) into one row, in the given order.

    Raises:
        ValueError: a sequence is empty; there is no final token to read.
    """
    lengths = np.array([len(s) for s in sequences], dtype=np.int64)
    if len(lengths) == 0 or lengths.min() == 0:
        raise ValueError("cannot pack an empty sequence: every example needs at least one token")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([np.asarray(s, dtype=np.int64) for s in sequences])
    positions = np.arange(len(ids)) - np.repeat(starts[:-1], lengths)
    groups, order = [], []
    for members in length_groups(lengths, max_groups):
        width = int(lengths[members].max())
        column = np.arange(width)
        real = column[None, :] < lengths[members, None]
        gather = starts[members, None] + np.where(real, column[None, :], 0)
        scatter = np.flatnonzero(real.ravel())
        where = gather.ravel()[scatter]
        order.append(where)
        groups.append(
            AttentionGroup(
                len(members),
                width,
                torch.from_numpy(gather.ravel()),
                torch.from_numpy(scatter),
                torch.from_numpy(where),
            )
        )
    inverse = np.empty(len(ids), dtype=np.int64)
    inverse[np.concatenate(order)] = np.arange(len(ids))
    return Pack(
        input_ids=torch.from_numpy(ids)[None],
        position_ids=torch.from_numpy(positions)[None],
        cu_seqlens=torch.from_numpy(starts.astype(np.int32)),
        last=torch.from_numpy(starts[1:] - 1),
        max_length=int(lengths.max()),
        groups=tuple(groups),
        inverse=torch.from_numpy(inverse),
        causal=causal,
    )


def filled(sequences: Sequence[Sequence[int]], tokens: int, examples: int, longest: int) -> Pack:
    """A pack of a fixed shape: the sequences, then tokens of no example, then places for examples that are not there.

    What does not belong to a sequence is computed and never read: ``last`` of a place without an example is position 0.

    Args:
        tokens: of the pack, at least those of ``sequences``.
        examples: length of ``last``.
        longest: no sequence has more tokens, and ``max_length`` says so.
    """
    spare = tokens - sum(map(len, sequences))
    pieces = [[0] * min(longest, spare - start) for start in range(0, spare, longest)]
    made = pack([*sequences, *pieces])
    places = examples + 1 + -(-tokens // longest) - len(made.cu_seqlens) + 1
    return replace(
        made,
        cu_seqlens=nn.functional.pad(made.cu_seqlens, (0, places), value=tokens),
        last=nn.functional.pad(made.last[: len(sequences)], (0, examples - len(sequences))),
        max_length=longest,
    )


def length_groups(lengths: np.ndarray, max_groups: int) -> list[np.ndarray]:
    """Partition examples into at most ``max_groups`` sets so that the padded area (sum of rows × width²) is small.

    Greedy: start from one set sorted by length and cut where the saved area is largest; a cut must save
    at least an eighth of the area, because every group costs its own kernel launches.
    """
    order = np.argsort(lengths, kind="stable")
    cuts = [0, len(order)]
    widths = lengths[order].astype(np.float64) ** 2

    def area(low: int, high: int) -> float:
        return float((high - low) * widths[high - 1])

    total = area(0, len(order))
    while len(cuts) - 1 < max_groups:
        best_gain, best_cut = 0.0, 0
        for low, high in pairwise(cuts):
            if high - low < 2:
                continue
            middle = np.arange(low + 1, high)
            gain = area(low, high) - (
                (middle - low) * widths[middle - 1] + (high - middle) * widths[high - 1]
            )
            index = int(gain.argmax())
            if gain[index] > best_gain:
                best_gain, best_cut = float(gain[index]), int(middle[index])
        if best_gain < total / 8:
            break
        cuts = sorted([*cuts, best_cut])
    return [order[low:high] for low, high in pairwise(cuts)]


def microbatches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Cut the examples of one step into microbatches of at most ``max_tokens`` tokens each, whole examples only.

    Sorted by length (ties by position) so that a pack's attention rectangles are tight. An example longer than the
    budget is a microbatch of its own.

    Yields:
        positions into ``lengths``.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batch: list[int] = []
    used = 0
    for index in order:
        if batch and used + lengths[index] > max_tokens:
            yield batch
            batch, used = [], 0
        batch.append(index)
        used += lengths[index]
    if batch:
        yield batch
