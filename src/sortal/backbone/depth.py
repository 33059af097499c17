"""The depth of a decoder: what each of its layers says about a text, and a model cut at one of them."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from sortal.backbone.lora import layer_index
from sortal.backbone.packing import Pack, pack
from sortal.backbone.pooling import Pooling, padded, pool
from sortal.errors import ConfigError, ModelError

POOLINGS: tuple[Pooling, ...] = ("last", "mean")
_NORMS = re.compile(r"^(norm|ln_f|final_norm|final_layer_?norm)$")


def cut_layers(settings: Any, layers: int) -> None:
    """Make a model configuration (in place) that of the first ``layers`` layers, followed by the final norm.

    Raises:
        ConfigError: the model has no such number of layers.
    """
    depth = int(settings.num_hidden_layers)
    if not 1 <= layers <= depth:
        raise ConfigError(
            f"keep_layers is {layers}, and the model has {depth} layers", f"use a number from 1 to {depth}"
        )
    for name, value in list(vars(settings).items()):
        if "layer" in name and isinstance(value, list | tuple) and len(value) == depth:
            setattr(settings, name, value[:layers])
    settings.num_hidden_layers = layers


class LayerReader:
    """Pooled states after every layer of a decoder, from one forward.

    A layer's state is what a model cut there would give: its output under the model's own final norm.

    Args:
        base: a decoder without its head.
        packed: whether it runs packed rows (`enable_packing`) or padded ones.
        pad_id: fills up padded rows.
        skip: tokens at a text's beginning that pooling ``mean`` leaves out.

    Raises:
        ModelError: its layers or its norm are not where decoders have them.
    """

    def __init__(self, base: nn.Module, packed: bool, pad_id: int, skip: int = 0) -> None:
        self.base, self.packed, self.pad_id, self.skip = base, packed, pad_id, skip
        # Some decoders end in a plain sum; most in a norm, which their last layer's state has passed already.
        norms = [module for name, module in base.named_children() if _NORMS.match(name)]
        self.norm = norms[0] if len(norms) == 1 else nn.Identity()
        self.layers = [
            module
            for name, module in base.named_modules()
            if layer_index(f"{name}.x") is not None and layer_index(f"{name.rpartition('.')[0]}.x") is None
        ]
        self._check()

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        device: torch.device = next(self.base.parameters()).device
        return device

    def __call__(self, rows: Pack) -> torch.Tensor:
        """Pooled states fp32 ``[examples, poolings, layers, hidden]``, poolings in the order of `POOLINGS`."""
        found: list[torch.Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            states = self.norm(output[0] if isinstance(output, tuple) else output)
            states = states[0] if self.packed else states[self._real]
            found.append(torch.stack([pool(states, rows, pooling, self.skip) for pooling in POOLINGS], 1))

        hooks = [layer.register_forward_hook(keep) for layer in self.layers]
        try:
            self._forward(rows)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(found, 2)

    def _forward(self, rows: Pack) -> torch.Tensor:
        """The decoder's own output; remembers which cells of a padded one are real."""
        if self.packed:
            out = self.base(
                input_ids=rows.input_ids,
                position_ids=rows.position_ids,
                use_cache=False,
                sortal_pack=rows,
            )
        else:
            ids, self._real = padded(rows, self.pad_id)
            out = self.base(input_ids=ids, attention_mask=self._real.long(), use_cache=False)
        states: torch.Tensor = out.last_hidden_state
        return states

    @torch.inference_mode()
    def _check(self) -> None:
        rows = pack([[1, 2, 3], [3]]).to(self.device)
        whole = self._forward(rows)
        expected = pool(whole[0] if self.packed else whole[self._real], rows, "last")
        states = self(rows)
        if not self.layers or states.shape[2] != len(self.layers):
            found = torch.full_like(expected, torch.inf)
        else:
            found = states[:, 0, -1]
        if not torch.allclose(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().mean())):
            raise ModelError(
                f"{type(self.base).__name__}: what its layers give could not be told from outside",
                "use method head or instruct for it",
            )
