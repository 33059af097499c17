"""The frozen base spread over processes, for models that one device cannot hold.

What FSDP does for trained weights is more than frozen ones need: adapters stay whole on every process and are summed by the loop, and a
frozen projection needs no gradient, no master copy and no optimiser state. So each process keeps a slice of every
adapted projection, as it is stored (16-bit, or packed 4-bit, which FSDP's flat parameters cannot hold together with its quantisation
state), and the fused LoRA layer gathers it for its product, in forward and again in backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from sortal.backbone.lora_layers import is_lora
from sortal.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """How a slice becomes the whole stored weight again: its element count and shape."""

    numel: int
    shape: torch.Size

    def own_part(self, whole: torch.Tensor) -> torch.Tensor:
        """This process's slice of a tensor of the weight's shape, flat and filled up to the length that all slices have."""
        rank, size = dist.get_rank(), -(-whole.numel() // dist.get_world_size())
        part = whole.reshape(-1)[rank * size : (rank + 1) * size]
        return nn.functional.pad(part, (0, size - part.numel()))

    def gather(self, piece: torch.Tensor) -> torch.Tensor:
        """The stored weight, from all processes' slices; every process must call this in the same order."""
        world = dist.get_world_size()
        whole = torch.empty(piece.numel() * world, dtype=piece.dtype, device=piece.device)
        dist.all_gather(list(whole.chunk(world)), piece)
        return whole[: self.numel].view(self.shape)


def shard_frozen(model: nn.Module) -> int:
    """Replace the frozen weight of every fused LoRA projection by this process's slice; returns the bytes released.

    Raises:
        ConfigError: not started with several processes, or adapters whose computation is not fused (dropout, Conv1D).
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        raise ConfigError(
            "shard_base needs several processes",
            "start with torchrun --nproc_per_node N -m sortal.cli.main train …",
        )
    released = 0
    for name, module in model.named_modules():
        if not is_lora(module):
            continue
        if not hasattr(module, "_sortal_plain_forward"):
            raise ConfigError(
                f"shard_base cannot spread {name}: its LoRA is not computed by the fused kernel",
                "set lora_dropout to 0",
            )
        layer: Any = module.get_base_layer()
        stored = layer.weight.data
        shard = Shard(stored.numel(), stored.shape)
        piece = shard.own_part(stored).clone()
        weight: Any = nn.Parameter(piece, requires_grad=False)
        weight.sortal_shard = shard
        weight.sortal_quant_state = getattr(layer.weight, "quant_state", None)
        released += (stored.numel() - piece.numel()) * stored.element_size()
        layer.weight = weight
    return released
