"""Short copies of the networks that methods tune, made from a config alone, for `sortal.training.step_memory`.

Their weights are memory that was never written, so a copy of a model of any size is made at once and takes next to no memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    AttentionInterface,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)
from transformers.pytorch_utils import Conv1D

from sortal.backbone import attention, loading
from sortal.backbone.checkpointing import checkpoint_layers
from sortal.backbone.depth import cut_layers
from sortal.backbone.language_model import LOGIT_ROWS, LanguageModel
from sortal.backbone.lora import add_lora, fuse, layer_index, top_layers, trainable
from sortal.backbone.packing import Pack
from sortal.backbone.pooling import Pooling
from sortal.backbone.prefix import below
from sortal.backbone.quiet import quiet
from sortal.backbone.trees import TreePack, TreeRow
from sortal.config import RunConfig
from sortal.methods.encoder_model import EncoderModel
from sortal.methods.head_model import HeadModel
from sortal.training.step_memory import ALONE, BELOW_A_PROMPT, Shape, Step, StepMemory, rehearse

_VARLEN = "sortal_rehearsed"
_ANSWER = 4  # tokens of an answer
# Two bytes for four values, and what double quantisation keeps for every 64 and 256 of them.
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True)
class Network:
    """What a method would tune, before anything of it exists.

    settings: the model's config with the number of labels and layers that are tuned. device: where it will run.
    prompted: whether its texts stand below a prompt that a microbatch reads once.
    """

    method: str
    settings: Any
    config: RunConfig
    dtype: torch.dtype
    device: torch.device
    pooling: Pooling = "last"
    prompted: bool = False

    @property
    def nf4(self) -> bool:
        """Whether weights stay in 4 bits."""
        if getattr(self.settings, "quantization_config", None) is not None:  # by whoever published it
            return True
        kept = self.device.type == "cuda" or self.config.nf4_backend == "bitsandbytes"
        return self.config.quantization == "nf4" and kept

    @property
    def parameters(self) -> int:
        """Of the network without adapters."""
        return sum(w.numel() for w in self._whole.parameters())

    @property
    def linear_parameters(self) -> int:
        """Of the linear layers in the stack."""
        return sum(w.numel() for w in _linear_weights(self._whole))

    @cached_property
    def plain(self) -> StepMemory:
        """Of a microbatch; rehearsed once."""
        return self.step(checkpointing=False)

    @cached_property
    def checkpointed(self) -> StepMemory:
        """Of one whose layers are computed twice; rehearsed once."""
        return self.step(checkpointing=True)

    def step(self, *, checkpointing: bool) -> StepMemory:
        """Memory of a microbatch."""
        layers = self._adapted_layers()  # below them nothing is kept
        below_a_prompt = self.prompted or self.method == "instruct"
        shapes = BELOW_A_PROMPT if below_a_prompt else ALONE
        found = rehearse(lambda depth: self._short(depth, checkpointing), layers, shapes)
        constant, *others = found.coefficients
        if self.nf4:  # one weight at a time is de-quantised
            largest = max(w.numel() for w in _linear_weights(self._whole))
            constant += largest * self.dtype.itemsize
        if (
            self.method == "instruct"
        ):  # logits in the model's dtype, and four times in fp32 on the way to their gradients
            constant += LOGIT_ROWS * self.settings.vocab_size * (self.dtype.itemsize + 4 * 4)
        return StepMemory((constant, *others))

    def weights(self) -> tuple[int, int]:
        """Bytes of the weights, and of the trained parameters with their gradients and both moments of AdamW."""
        model = self._whole
        linear = {id(w) for w in _linear_weights(model)}
        size = 4 if self.method == "encoder" else self.dtype.itemsize
        held = sum(
            w.numel() * (_NF4_BYTES if self.nf4 and id(w) in linear else size) for w in model.parameters()
        )
        if self.method == "encoder" and self.config.tuning == "full":
            return int(held), 3 * int(held)
        one = sum(p.numel() for p in trainable(self._tuned(self.settings, 1)).values())
        two = sum(p.numel() for p in trainable(self._tuned(self.settings, 2)).values())
        trained = one + (two - one) * (self._adapted_layers() - 1)
        return int(held), 16 * trained

    def _adapted_layers(self) -> int:
        return top_layers(self.config, int(self.settings.num_hidden_layers))

    @cached_property
    def _whole(self) -> Any:
        return self._empty(self.settings)

    def _empty(self, settings: Any) -> Any:
        """A network without memory."""
        auto = {"instruct": AutoModelForCausalLM, "encoder": AutoModel}.get(
            self.method, AutoModelForSequenceClassification
        )
        dtype = torch.float32 if self.method == "encoder" else self.dtype
        settings = copy.deepcopy(settings)
        if getattr(settings, "quantization_config", None) is not None:
            del settings.quantization_config
        with quiet(), torch.device("meta"):
            return auto.from_config(settings, dtype=dtype)

    def _tuned(self, settings: Any, layers: int) -> nn.Module:
        """A copy of ``layers`` layers as it is tuned, on a CPU and without values."""
        settings = copy.deepcopy(settings)
        if layers < settings.num_hidden_layers:
            cut_layers(settings, layers)
        config = self.config.model_copy(update={"lora_top_layers": None})
        base = self._empty(settings).to_empty(device="cpu")
        for parameter in base.parameters():
            if parameter.dim() == 1:
                nn.init.ones_(parameter)
        for buffer in base.buffers():  # positions among them
            buffer.zero_()
        if self.method == "encoder":
            model = EncoderModel(base, settings.num_labels, 0, own=False, dtype=self.dtype)
            model.tune(config)
            return model
        base.requires_grad_(False).eval()
        flash = self.device.type == "cuda" and self.dtype != torch.float32
        base.set_attn_implementation(_VARLEN if flash else attention.NAME)
        if self.method == "head":
            loading.fresh_score(base, settings, torch.device("cpu"))
        adapted = add_lora(base, config)
        fuse(adapted)
        if self.method == "head":
            return HeadModel(adapted, packed=True, pooling=self.pooling)
        return LanguageModel(adapted, shares=True)

    def _short(self, layers: int, checkpointing: bool) -> Step:
        model = self._tuned(self.settings, layers)
        if checkpointing:
            checkpoint_layers(model, dropout=False)
        loss = _response_loss(model) if isinstance(model, LanguageModel) else _logits_loss(model)

        def step(shape: Shape) -> None:
            loss(shape).backward()

        return step


def _logits_loss(model: nn.Module) -> Callable[[Shape], torch.Tensor]:
    def loss(shape: Shape) -> torch.Tensor:
        logits: torch.Tensor = model(below([0] * shape.prompt, [[0] * shape.width] * shape.rows))
        return logits.logsumexp(-1).sum()

    return loss


def _response_loss(model: LanguageModel) -> Callable[[Shape], torch.Tensor]:
    def loss(shape: Shape) -> torch.Tensor:
        ids, prompt = np.zeros(shape.width, np.int64), np.zeros(shape.prompt, np.int64)
        ends = np.arange(shape.width, shape.tokens + 1, shape.width)[:, None]
        read = np.sort((ends - 1 - np.arange(_ANSWER)).ravel())
        return model.states([TreeRow(ids)] * shape.rows, prompt, read=read).sum()

    return loss


def _linear_weights(model: nn.Module) -> list[torch.Tensor]:
    """Of the stack of layers: what 4 bits are for."""
    return [
        module.weight
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and layer_index(path) is not None
    ]


class _Flash(torch.autograd.Function):
    """What torch's variable-length flash kernel keeps and makes, without its arithmetic; ``[tokens, heads, dim]``."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out, sums = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v, _, _ = ctx.saved_tensors
        found = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        sums = torch.empty_like(q, dtype=torch.float32)  # where blocks of keys add up the gradient of queries
        # Keys and values of every query head, before they are added up.
        wide = [torch.empty_like(q) for _ in range(2)] if q.shape[1] != k.shape[1] else []
        del sums, wide
        return found


def _flash_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    sortal_pack: Pack | TreePack | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if isinstance(sortal_pack, TreePack):
        return attention.packed_attention(
            module, query, key, value, attention_mask, sortal_pack=sortal_pack, **kwargs
        )
    q, k, v = (t[0].transpose(0, 1).contiguous() for t in (query, key, value))
    out: torch.Tensor = _Flash.apply(q, k, v)  # type: ignore[no-untyped-call]
    return out[None], None


AttentionInterface.register(_VARLEN, _flash_attention)
