"""A causal language model as scoring and tuning use it: states of trees of tokens, and log-probabilities of chosen tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sortal.backbone import attention, native, native_products
from sortal.backbone.last_layer import last_layer_at
from sortal.backbone.trees import Memory, TreeRow, tree_pack
from sortal.errors import ModelError

LOGIT_ROWS = 256  # positions whose logits over the vocabulary exist at one time


class LanguageModel(nn.Module):
    """Rows in, states and log-probabilities out.

    Args:
        model: transformers' ``…ForCausalLM``, inside a peft model or not.
        shares: whether the decoder computes a prompt once for many rows (checked by `enable_trees`); otherwise every
            path through a row is a padded sequence of its own, which is slower and gives the same numbers.
    """

    def __init__(self, model: Any, shares: bool) -> None:
        super().__init__()
        self.model = model
        self.shares = shares
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._inner = (inner,)  # a tuple, so that the module is not registered twice

    @property
    def inner(self) -> Any:
        """The transformers model."""
        return self._inner[0]

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def remember(self, prompt: npt.NDArray[np.int64]) -> Memory:
        """Keys and values of ``prompt`` under the current weights; only for models that share."""
        memory = Memory()
        if len(prompt):
            self._packed([], prompt, memory, np.zeros(0, np.int64))
        return memory

    def states(
        self,
        rows: Sequence[TreeRow],
        prompt: npt.NDArray[np.int64],
        memory: Memory | None = None,
        read: npt.NDArray[np.int64] | None = None,
    ) -> torch.Tensor:
        """Final states ``[tokens, hidden]``, row after row.

        Args:
            prompt: the shared prompt's ids, empty when ``memory`` holds it.
            memory: from `remember`; only for models that share.
            read: the tokens whose states are wanted, as positions in the concatenated rows; None for all.
        """
        if self.shares:
            return self._packed(rows, prompt, memory, read)
        states = self._alone(rows, prompt)
        return states if read is None else states.index_select(0, torch.from_numpy(read).to(states.device))

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, vocabulary]`` in fp32 of states ``[n, hidden]``; for a few positions at a time."""
        return output_logits(self.inner, states)

    def token_logits(self, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
        """Logits ``[n, len(tokens)]`` in fp32 of a few tokens only; differentiable in the states."""
        head = self.inner.get_output_embeddings()
        bias = None if head.bias is None else head.bias[list(tokens)].float()
        logits = torch.nn.functional.linear(states.float(), head.weight[list(tokens)].float(), bias)
        return _transformed(logits, self.inner.config)

    def logits_of(self, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
        """The columns ``tokens`` of `logits`, rounded as they are there; fp32 ``[n, len(tokens)]``."""
        head = self.inner.get_output_embeddings()
        chosen = list(tokens)
        bias = None if head.bias is None else head.bias[chosen]
        logits = torch.nn.functional.linear(states, head.weight[chosen], bias).float()
        return _transformed(logits, self.inner.config)

    def token_logprobs(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """log p(target | state), fp32 ``[n]``; differentiable in the states, a chunk of positions in memory at a time."""
        out: torch.Tensor = _TokenLogprobs.apply(states, targets, self.logits)
        return out

    def edge_logprobs(
        self, states: torch.Tensor, parents: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """log p(``tokens[e]`` | ``states[parents[e]]``), fp32 ``[edges]``; ``parents`` ascending; no gradient."""
        found = torch.empty(len(tokens), device=states.device)
        bounds = torch.searchsorted(
            parents, torch.arange(0, len(states) + LOGIT_ROWS, LOGIT_ROWS, device=parents.device)
        )
        cuts = bounds.tolist()
        for number, start in enumerate(range(0, len(states), LOGIT_ROWS)):
            part = states[start : start + LOGIT_ROWS]
            edges = slice(cuts[number], cuts[number + 1])
            at = parents[edges] - start
            if native.ready(part) and _transformed(part, self.inner.config) is part:  # logits as they come
                logits = self._plain_logits(part)
                whole = native.log_sum_exp(logits)  # without a copy of all logits in fp32
            else:
                logits = self.logits(part)
                whole = logits.logsumexp(-1)
            found[edges] = logits[at, tokens[edges]].float() - whole[at]
        return found

    def _plain_logits(self, states: torch.Tensor) -> torch.Tensor:
        """The output projection alone; its weight, a quarter of what all layers of a small model have, is put in the order of tiles once."""
        head = self.inner.get_output_embeddings()
        weight = head.weight
        frozen = head.bias is None and not weight.requires_grad
        if not (frozen and native_products.there() and native_products.packable(weight)):
            return head(states)  # type: ignore[no-any-return]
        if not hasattr(weight, "sortal_tiles"):  # with the weight, so that models that share it share them
            weight.sortal_tiles = native_products.packed(weight)
        return native_products.linear(states, weight.sortal_tiles)

    def _packed(
        self,
        rows: Sequence[TreeRow],
        prompt: npt.NDArray[np.int64],
        memory: Memory | None,
        read: npt.NDArray[np.int64] | None,
    ) -> torch.Tensor:
        pack = tree_pack(rows, prompt, memory).to(self.device)
        at = None if read is None else torch.from_numpy(pack.prompt_tokens + read).to(self.device)
        out = packed_states(self.inner, pack, at)
        if memory is not None:
            if pack.prompt_tokens:
                memory.prompt_tokens = pack.prompt_tokens
            if memory.grow:
                new = pack.position_ids[0]
                memory.positions = new if memory.positions is None else torch.cat([memory.positions, new])
        return out[pack.prompt_tokens :] if at is None else out.index_select(0, at)

    def _alone(self, rows: Sequence[TreeRow], prompt: npt.NDArray[np.int64]) -> torch.Tensor:
        paths = [path for row in rows for path in _paths(row)]
        sequences = [np.concatenate([prompt, ids[path]]) for (ids, path) in paths]
        width = max(map(len, sequences))
        batch = np.zeros((len(sequences), width), np.int64)
        mask = np.zeros_like(batch)
        for i, sequence in enumerate(sequences):
            batch[i, : len(sequence)], mask[i, : len(sequence)] = sequence, 1
        base = getattr(self.inner, self.inner.base_model_prefix)
        out = base(
            input_ids=torch.from_numpy(batch).to(self.device),
            attention_mask=torch.from_numpy(mask).to(self.device),
            use_cache=False,
        ).last_hidden_state
        # A token on several paths has the same state on each: take the last one.
        where = np.concatenate([np.zeros((len(row.ids), 2), np.int64) for row in rows])
        offset = number = 0
        for row in rows:
            for _, path in _paths(row):
                where[offset + path, 0] = number
                where[offset + path, 1] = len(prompt) + np.arange(len(path))
                number += 1
            offset += len(row.ids)
        at = torch.from_numpy(where).to(self.device)
        return out[at[:, 0], at[:, 1]]  # type: ignore[no-any-return]


def _paths(row: TreeRow) -> list[tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]:
    """``(ids, positions in the row)`` of every root-to-leaf path."""
    if row.kept is not None:
        raise ValueError("rows with kept tokens need a model that shares")
    m = len(row.ids)
    visible = np.tri(m, dtype=bool) if row.visible is None else row.visible
    leaves = np.flatnonzero(visible.sum(0) == 1)  # seen by themselves only
    return [(np.asarray(row.ids), np.flatnonzero(visible[leaf])) for leaf in leaves]


class _TokenLogprobs(torch.autograd.Function):
    """Gradients to the states are computed chunk by chunk in forward, while the chunk's logits exist."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, targets: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        values, gradients = [], []
        for start in range(0, len(states), LOGIT_ROWS):
            part, wanted = states[start : start + LOGIT_ROWS].detach(), targets[start : start + LOGIT_ROWS]
            needed = bool(ctx.needs_input_grad[0])
            with torch.set_grad_enabled(needed):
                part.requires_grad_(needed)
                found = logits(part).log_softmax(-1).gather(1, wanted[:, None])[:, 0]
                if needed:
                    gradients.append(torch.autograd.grad(found.sum(), part)[0])
            values.append(found.detach())
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradients,) = ctx.saved_tensors
        return gradients * grad[:, None].to(gradients.dtype), None, None


def packed_states(model: Any, pack: Any, read: torch.Tensor | None = None) -> torch.Tensor:
    """Final states ``[tokens, hidden]`` of a `TreePack`, its prompt's included; right at ``read`` only (None: everywhere)."""
    base = getattr(model, model.base_model_prefix)
    with last_layer_at(base, read):
        out = base(
            input_ids=pack.input_ids, position_ids=pack.position_ids, use_cache=False, sortal_pack=pack
        )
    return out.last_hidden_state[0]  # type: ignore[no-any-return]


def output_logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """What the model's own forward makes of final states: its output projection and the few transforms that exist."""
    return _transformed(model.get_output_embeddings()(states).float(), model.config)


def _transformed(logits: torch.Tensor, config: Any) -> torch.Tensor:
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits = logits * scale
    if scale := getattr(config, "logits_scaling", None):  # Granite
        logits = logits / scale
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits


def enable_trees(model: Any) -> bool:
    """Switch ``model`` to trees below a shared prompt if that gives the states of plain sequences; else leave it as it is.

    Raises:
        ModelError: the model's own logits are not those of `output_logits`; its label probabilities would be wrong.
    """
    device = next(model.parameters()).device
    rng = np.random.default_rng(0)
    vocabulary = int(model.config.vocab_size)
    prompt, *texts = (rng.integers(0, vocabulary, n) for n in (7, 5, 3, 9))
    # The first row branches after its second token: tokens 2, 3 and token 4.
    visible = np.tri(5, dtype=bool)
    visible[4, 2:4] = False
    rows = [TreeRow(texts[0], np.array([0, 1, 2, 3, 2]), visible), TreeRow(texts[1]), TreeRow(texts[2])]
    tolerance = 1e-3 if model.dtype == torch.float32 else 6e-2
    with torch.inference_mode():
        plain = LanguageModel(model, shares=False)
        ids = torch.from_numpy(np.concatenate([prompt, texts[1]]))[None].to(device)
        expected = plain.states(rows, prompt).float()
        own = model(input_ids=ids, use_cache=False).logits[0, -1].float()
        ours = output_logits(model, expected[7:8].to(model.dtype))[0]
        if (ours - own).norm() > tolerance * own.norm():
            raise ModelError(
                f"{type(model).__name__} changes its logits in a way Sortal does not know",
                "use method head, which does not read logits",
            )
        if not getattr(type(getattr(model, model.base_model_prefix)), "_supports_attention_backend", False):
            return False
        before = model.config._attn_implementation
        model.set_attn_implementation(attention.NAME)
        try:
            found = LanguageModel(model, shares=True).states(rows, prompt).float()
        except (RuntimeError, TypeError, ValueError, AttributeError):
            found = torch.full_like(expected, torch.inf)
    if (found - expected).norm() <= tolerance * expected.norm():
        return True
    model.set_attn_implementation(before)
    return False
