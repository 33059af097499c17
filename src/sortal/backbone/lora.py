"""LoRA through peft on every linear projection of the decoder, with the fused computation of `fused`."""

from __future__ import annotations

import re
import types
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sortal.backbone import fused
from sortal.backbone.lora_layers import is_lora
from sortal.backbone.quiet import quiet
from sortal.backbone.rotary import is_rotary_attention, with_rotary
from sortal.config import RunConfig
from sortal.data.problems import nearest
from sortal.errors import ConfigError

if TYPE_CHECKING:
    from sortal.backbone.adapters import PeftModel


def linear_names(model: nn.Module) -> list[str]:
    """Leaf names of all linear projections inside the decoder's layers, in order of appearance (``q_proj`` …)."""
    names: dict[str, None] = {}
    for path, module in model.named_modules():
        if layer_index(path) is not None and isinstance(module, nn.Linear | Conv1D):
            names[path.rsplit(".", 1)[-1]] = None
    return list(names)


def layer_index(path: str) -> int | None:
    """``model.layers.7.mlp.up_proj`` → 7; None outside the stack of layers."""
    match = re.search(r"\.(?:layers|layer|h|blocks|block)\.(\d+)\.", f".{path}.")
    return int(match.group(1)) if match else None


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of the stack, in their order."""
    found: dict[int, nn.Module] = {}
    for path, module in model.named_modules():
        if path.rpartition(".")[2].isdigit() and (index := layer_index(f"{path}.x")) is not None:
            found.setdefault(index, module)  # what a layer numbers inside itself comes later
    return [found[index] for index in sorted(found)]


def top_layers(config: RunConfig, depth: int) -> int:
    """How many layers of a model of ``depth`` layers get adapters, counted from the top.

    Raises:
        ConfigError: ``lora_top_layers`` exceeds the model.
    """
    top = config.lora_top_layers
    if top == "half":
        return -(-depth // 2)
    if top is not None and top > depth:
        raise ConfigError(
            f"lora_top_layers is {top} but the model has {depth} layers", f"use a number from 1 to {depth}"
        )
    return top or depth


def add_lora(model: Any, config: RunConfig) -> PeftModel:
    """Wrap a ``…ForSequenceClassification`` or ``…ForCausalLM`` model, or an encoder without a head; trainable afterwards, in fp32: the adapters and, where there is one, ``score``.

    Raises:
        ConfigError: a named target does not exist, or ``lora_top_layers`` exceeds the model.
    """
    from sortal.backbone.adapters import LoraConfig as PeftLoraConfig
    from sortal.backbone.adapters import TaskType, get_peft_model

    known = linear_names(model)
    for name in config.lora_targets:
        if name not in known:
            raise ConfigError(
                f"lora_targets: the model has no linear layer {name!r}{nearest(name, known)}",
                f"choose from {', '.join(known)}",
            )
    if not known:
        raise ConfigError(
            f"{type(model).__name__} has no stack of linear layers for LoRA",
            "use tuning 'full' or another model",
        )
    depth = 1 + max(i for i in (layer_index(p) for p, _ in model.named_modules()) if i is not None)
    first = depth - top_layers(config, depth)
    wanted = set(config.lora_targets or known)
    named = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and path.rsplit(".", 1)[-1] in wanted
    ]
    targets = [path for path in named if (index := layer_index(path)) is not None and index >= first]
    conv = any(isinstance(m, Conv1D) for m in model.modules())
    has_score = hasattr(model, "score")
    writes = hasattr(model, "prepare_inputs_for_generation")
    peft_config = PeftLoraConfig(
        task_type=TaskType.SEQ_CLS
        if has_score
        else TaskType.CAUSAL_LM
        if writes
        else TaskType.FEATURE_EXTRACTION,
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets if len(targets) < len(named) else sorted(wanted),
        modules_to_save=["score"] if has_score else None,
        fan_in_fan_out=conv,
    )
    with quiet():
        return get_peft_model(model, peft_config)


def fuse(model: nn.Module) -> int:
    """Replace the forward of every module that `fused` and `rotary` know how to compute; returns how many were replaced.

    Parameters, names and files stay untouched; `peft`'s own forward remains in use for disabled adapters.
    """
    count = 0
    for module in model.modules():
        if is_lora(module) and _plain_lora(module):
            module._sortal_plain_forward = module.forward
            module.forward = types.MethodType(fused.lora_forward, module)
        elif fused.is_rms_norm(module):
            module.forward = types.MethodType(fused.rms_forward, module)
        elif fused.is_silu_mlp(module):
            module.forward = types.MethodType(fused.mlp_forward, module)
        elif is_rotary_attention(module):
            module.forward = with_rotary(module)
        else:
            continue
        count += 1
    _narrow_at_once(model)
    return count


def _narrow_at_once(model: nn.Module) -> None:
    """Let every forward of the decoder begin with `fused.narrow_adapters`, where adapters are wider than what they are multiplied with."""
    adapted = {
        path: module for path, module in model.named_modules() if hasattr(module, "_sortal_plain_forward")
    }
    if not adapted or any(layer_index(path) is None for path in adapted):
        return
    stack = re.search(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.\d+\.", path := next(iter(adapted)))
    decoder = model.get_submodule(path[: stack.start()] if stack else "")
    given = (p.dtype for n, p in decoder.named_parameters() if "lora_" not in n and p.is_floating_point())
    layers, dtype = list(adapted.values()), next(given, torch.float32)

    def before(module: nn.Module, inputs: Any) -> None:
        if layers[0].lora_A[layers[0].active_adapters[0]].weight.dtype != dtype:
            fused.narrow_adapters(layers, dtype)

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        for layer in layers:
            layer._sortal_narrow = None  # the next step's are others

    hooks = (
        decoder.register_forward_pre_hook(before),
        decoder.register_forward_hook(after, always_call=True),
    )
    decoder._sortal_narrowing = hooks  # type: ignore[assignment]


def _plain_lora(module: Any) -> bool:
    """One adapter, no dropout, no variant (DoRA …), on an nn.Linear or a bitsandbytes 4-bit layer."""
    base = module.get_base_layer()
    names = list(getattr(module, "lora_A", {}))
    return (
        len(names) == 1
        and isinstance(base, nn.Linear)
        and isinstance(module.lora_dropout[names[0]], nn.Identity)
        and not getattr(module, "lora_variant", {})
        and module.lora_B[names[0]].bias is None
        and (type(base) is nn.Linear or hasattr(base.weight, "quant_state"))
    )


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters the optimiser sees, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def training_mode(model: nn.Module, mode: bool) -> None:
    """Switch the dropouts of what is trained: all of them, or the adapters' only over a frozen base, which stays in eval mode."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        model.train(mode)
        return
    for module in model.modules():
        if is_lora(module):
            for dropout in module.lora_dropout.values():
                dropout.train(mode)


def parameter_count(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; 4-bit weights count as the values they stand for."""
    total = sum(_size(p) for p in model.parameters())
    return sum(p.numel() for p in trainable(model).values()), total


def flops_per_token(model: nn.Module, *, only_trained: bool = False) -> int:
    """Floating-point operations of a training step for each token it reads: of the linear layers in the stack, which decide the time.

    Two per weight below the lowest trained layer (forward); four from there on (and the gradient to the inputs), six where the weight itself is trained.

    Args:
        only_trained: what lies below the lowest trained layer was computed before.
    """
    trained = [index for name in trainable(model) if (index := layer_index(name)) is not None]
    first = min(trained, default=0)
    found = 0
    for path, module in model.named_modules():
        index = layer_index(path)
        if index is None or "lora_" in path or not isinstance(module, nn.Linear | Conv1D):
            continue
        below = 0 if only_trained else 2
        passes = below if index < first else 6 if module.weight.requires_grad else 4
        found += passes * _size(module.weight)
    return found


def _size(parameter: Any) -> int:
    shard = getattr(parameter, "sortal_shard", None)
    state = getattr(parameter, "sortal_quant_state" if shard is not None else "quant_state", None)
    if state is not None:
        return int(state.shape.numel())
    return int(shard.numel if shard is not None else parameter.numel())
