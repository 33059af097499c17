"""Packs of rows that share a prompt and may branch: one forward for a prompt, many texts and all their continuations.

A row hangs below the shared prompt. Its tokens are a chain (text, answer cue, answer) or a tree (text and cue as the trunk, one
branch per continuation). Every token sees the whole prompt and, inside its row, what `TreeRow.visible` says. Keys and values of the
prompt and of tokens from earlier packs can be kept in a `Memory`, so that a prompt is computed once and a tree can grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone.packing import AttentionGroup, length_groups

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TreeRow:
    """One row below the shared prompt.

    ids: int ``[m]``; depth: int64 ``[m]``, distance of every token from the prompt's end (0 = right after it), or None for a chain.
    visible: bool ``[m, c + m]``: which kept tokens (first ``c`` columns) and which of its own a token sees, itself included; None is causal.
    kept: int64 ``[c]``, slots in `Memory` of the row's tokens from earlier packs.
    """

    ids: npt.NDArray[np.integer]
    depth: Ints | None = None
    visible: Bools | None = None
    kept: Ints | None = None


@dataclass
class Memory:
    """Keys and values ``[tokens, kv_heads, head_dim]`` per layer, of the shared prompt and of rows; filled by the attention.

    prompt_tokens: length of the kept prompt; grow: whether packs append their rows' keys and values; positions: int64, of the rows' tokens.
    """

    prompt_tokens: int = 0
    grow: bool = False
    prompt: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    rows: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    positions: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        """Number of rows' tokens kept."""
        return 0 if self.positions is None else len(self.positions)

    def with_prompt_only(self, grow: bool = False) -> Memory:
        """A memory that shares this one's prompt and holds no rows yet."""
        return Memory(self.prompt_tokens, grow, self.prompt)

    def keep(self, slots: Ints) -> None:
        """Forget all rows' tokens but those in ``slots``, which are numbered anew in that order."""
        if self.positions is None:
            return
        chosen = torch.from_numpy(slots).to(self.positions.device)
        self.positions = self.positions[chosen] if len(slots) else None
        kept = {layer: (k[chosen], v[chosen]) for layer, (k, v) in self.rows.items()} if len(slots) else {}
        self.rows.clear()
        self.rows.update(kept)


@dataclass(frozen=True)
class TreeGroup:
    """Rows of similar length as a rectangle of ``width`` queries and ``keys`` keys.

    cells: where every query cell is in the pack, and back (see `AttentionGroup`); the first ones of every row are real.
    lengths: int64 ``[rows]``, how many.
    key_gather: int64 ``[rows * keys]``, positions in ``[memory rows | pack]``; None when keys are the queries' own cells.
    visible: bool ``[rows, width, keys]``; None is causal.
    """

    cells: AttentionGroup
    keys: int
    lengths: torch.Tensor
    key_gather: torch.Tensor | None = None
    visible: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> TreeGroup:
        """The same group with its tensors on ``device``."""
        gather = None if self.key_gather is None else self.key_gather.to(device)
        visible = None if self.visible is None else self.visible.to(device)
        return TreeGroup(self.cells.to(device), self.keys, self.lengths.to(device), gather, visible)


@dataclass(frozen=True)
class TreePack:
    """One microbatch: the shared prompt (unless memory holds it), then the rows one after another.

    input_ids, position_ids: int64 ``[1, tokens]``. prompt_tokens: leading tokens of the pack that are the shared prompt.
    starts: int64 ``[rows + 1]``, where each row begins in the pack.
    inverse: int64, brings the groups' concatenated real cells into pack order, the prompt left out.
    texts: see `Pack.texts`.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    prompt_tokens: int
    starts: Ints
    groups: tuple[TreeGroup, ...]
    inverse: torch.Tensor
    memory: Memory | None = None
    texts: torch.Tensor | None = None

    @property
    def last(self) -> torch.Tensor:
        """int64 ``[rows]``, position in the pack of every row's final token."""
        return torch.from_numpy(self.starts[1:] - 1).to(self.input_ids.device)

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return int(self.input_ids.shape[1])

    def to(self, device: torch.device | str) -> TreePack:
        """The same pack with its tensors on ``device``."""
        return TreePack(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.prompt_tokens,
            self.starts,
            tuple(group.to(device) for group in self.groups),
            self.inverse.to(device),
            self.memory,
            None if self.texts is None else self.texts.to(device),
        )


def tree_pack(
    rows: Sequence[TreeRow],
    prompt: Sequence[int] | npt.NDArray[np.integer] = (),
    memory: Memory | None = None,
    max_groups: int = 4,
) -> TreePack:
    """Pack ``rows`` below ``prompt``, or below the prompt that ``memory`` holds.

    Raises:
        ValueError: an empty row; a prompt both given and kept.
    """
    kept_prompt = 0 if memory is None else memory.prompt_tokens
    if len(prompt) and kept_prompt:
        raise ValueError("the prompt is in memory already")
    if any(len(row.ids) == 0 for row in rows):
        raise ValueError("cannot pack an empty row")
    p = len(prompt)
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
    starts = p + np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    depths = [np.arange(len(row.ids)) if row.depth is None else row.depth for row in rows]
    ids = np.concatenate([np.asarray(prompt, np.int64), *(np.asarray(row.ids, np.int64) for row in rows)])
    positions = np.concatenate([np.arange(p), *(p + kept_prompt + depth for depth in depths)]).astype(
        np.int64
    )
    offset = 0 if memory is None else memory.tokens
    groups, order = [], []
    for members in length_groups(lengths, max_groups) if len(rows) else []:
        group = _group([rows[i] for i in members], lengths[members], starts[members], offset)
        groups.append(group)
        order.append(group.cells.positions.numpy() - p)
    inverse = np.empty(len(ids) - p, dtype=np.int64)
    if order:
        inverse[np.concatenate(order)] = np.arange(len(ids) - p)
    return TreePack(
        torch.from_numpy(ids)[None],
        torch.from_numpy(positions)[None],
        p,
        starts,
        tuple(groups),
        torch.from_numpy(inverse),
        memory,
    )


def _group(rows: list[TreeRow], lengths: Ints, starts: Ints, offset: int) -> TreeGroup:
    width = int(lengths.max())
    column = np.arange(width)
    real = column[None, :] < lengths[:, None]
    gather = starts[:, None] + np.where(real, column[None, :], 0)
    scatter = np.flatnonzero(real.ravel())
    cells = AttentionGroup(
        len(rows),
        width,
        torch.from_numpy(gather.ravel()),
        torch.from_numpy(scatter),
        torch.from_numpy(gather.ravel()[scatter]),
    )
    if offset == 0 and all(row.visible is None and row.kept is None for row in rows):
        return TreeGroup(cells, width, torch.from_numpy(lengths))
    kept = [np.zeros(0, np.int64) if row.kept is None else row.kept for row in rows]
    keys = max(len(k) for k in kept) + width
    key_gather = np.repeat(offset + starts[:, None], keys, axis=1)
    # A padding query sees its row's own first cell only, so that its softmax is finite; its result is dropped.
    visible = np.zeros((len(rows), width, keys), dtype=bool)
    for i, row in enumerate(rows):
        c, m = len(kept[i]), int(lengths[i])
        key_gather[i, :c] = kept[i]
        key_gather[i, c : c + m] = offset + starts[i] + np.arange(m)
        visible[i, :m, : c + m] = (
            np.concatenate([np.ones((m, c), bool), np.tri(m, dtype=bool)], axis=1)
            if row.visible is None
            else row.visible
        )
        visible[i, m:, c] = True
    return TreeGroup(
        cells,
        keys,
        torch.from_numpy(lengths),
        torch.from_numpy(key_gather.ravel()),
        torch.from_numpy(visible),
    )
