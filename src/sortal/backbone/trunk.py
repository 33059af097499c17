"""A decoder in two parts: the layers below, whose states do not change while only those above are tuned, and the layers above.

The states between them are computed once per text; every epoch then runs, forward and backward, through the layers above alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.lora import decoder_layers
from sortal.backbone.packing import Pack, pack


class _Reached(Exception):  # noqa: N818 - no error: it ends a forward whose rest nobody needs
    def __init__(self, states: torch.Tensor) -> None:
        self.states = states


class Trunk:
    """The layers of ``base`` below number ``first``.

    Args:
        base: a decoder without its head, running packed rows.
    """

    def __init__(self, base: Any, first: int) -> None:
        self.base, self.first = base, first
        self.layers = decoder_layers(base)

    def below(self, rows: Pack) -> torch.Tensor:
        """What layer ``first`` reads, ``[tokens, hidden]`` in the model's dtype."""

        def stop(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            raise _Reached(inputs[0])

        hook = self.layers[self.first].register_forward_pre_hook(stop)
        try:
            self.base(
                input_ids=rows.input_ids, position_ids=rows.position_ids, use_cache=False, sortal_pack=rows
            )
        except _Reached as reached:
            return reached.states[0]
        finally:
            hook.remove()
        raise RuntimeError(f"{type(self.base).__name__} never ran its layer {self.first}")

    @contextmanager
    def only_above(self) -> Iterator[None]:
        """Inside, a forward of ``base`` that is given ``inputs_embeds`` takes them for what layer ``first`` reads."""
        stacks = [
            (name, part)
            for name, part in self.base.named_children()
            if isinstance(part, nn.ModuleList) and list(part) == self.layers
        ]
        if len(stacks) != 1:
            raise RuntimeError(f"{type(self.base).__name__} has no stack of layers of its own")
        (name, stack), config = stacks[0], self.base.config
        whole = {
            key: value
            for key, value in vars(config).items()
            if "layer" in key and isinstance(value, list) and len(value) == len(self.layers)
        }
        setattr(self.base, name, nn.ModuleList(self.layers[self.first :]))
        for key, value in whole.items():  # kinds of attention, layer by layer
            setattr(config, key, value[self.first :])
        try:
            yield
        finally:
            setattr(self.base, name, stack)
            for key, value in whole.items():
                setattr(config, key, value)

    @torch.inference_mode()
    def exact(self) -> bool:
        """Whether the two parts give what the whole gives, on a few tokens; scaled or added embeddings would show."""
        device = next(self.base.parameters()).device
        rows = pack([[3, 1, 2, 1], [2], [1, 3]]).to(device)
        plain = {"position_ids": rows.position_ids, "use_cache": False, "sortal_pack": rows}
        expected = self.base(input_ids=rows.input_ids, **plain).last_hidden_state
        try:
            below = self.below(rows)[None]
            with self.only_above():
                found = self.base(inputs_embeds=below, **plain).last_hidden_state
        except (RuntimeError, TypeError, ValueError, IndexError):
            return False
        return bool((found - expected).norm() <= 1e-3 * expected.norm())


class TrunkTexts(EncodedTexts):
    """Encoded texts with the states of their tokens below the tuned layers.

    states: ``[tokens, hidden]``, memory-mapped, as many bytes per value as ``dtype`` has.
    """

    def __init__(self, texts: EncodedTexts, states: np.ndarray[Any, Any], dtype: torch.dtype) -> None:
        super().__init__(texts.flat, texts.offsets, texts.truncated, section_cuts=texts.section_cuts)
        self._states, self._dtype = states, dtype

    def below(self, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        """States ``[tokens, hidden]`` of some texts, in that order."""
        parts = [self._states[self.offsets[i] : self.offsets[i + 1]] for i in rows]
        return torch.from_numpy(np.concatenate(parts)).view(self._dtype)
