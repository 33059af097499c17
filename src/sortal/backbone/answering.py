"""From a model that was tuned to one that answers: nothing is learned any more, so its weights may lie as suits the products."""

from __future__ import annotations

from torch import nn

from sortal.backbone import held
from sortal.backbone.lora_layers import is_lora
from sortal.backbone.merging import call_directly, merge_adapters
from sortal.backbone.packed_weights import pack_weights


def settle(model: nn.Module) -> None:
    """Adapters go into the weights they stand beside, and those into the layout a CPU multiplies from; models that share their weights are left as they are."""
    if not held.sharing_now():
        merge_adapters(model)
        pack_weights(model)
        call_directly(model)
    for module in model.modules():
        for hook in getattr(module, "_sortal_narrowing", ()):  # what narrows adapters before every forward
            hook.remove()


def freeze(model: nn.Module) -> None:
    """Make a model that `fuse` has seen answer only, settled and without gradients.

    Adapters that stay beside their weights, 4-bit ones or those of models that share, get a copy in the dtype they are multiplied in.
    """
    model.requires_grad_(False).eval()
    settle(model)
    for module in model.modules():
        if is_lora(module) and hasattr(module, "_sortal_plain_forward") and not module.merged:
            dtype = module.get_base_layer().weight.dtype
            if dtype.is_floating_point:  # what is stored in 4 bits is multiplied in a dtype of its own
                name = module.active_adapters[0]
                pair = (module.lora_A[name].weight, module.lora_B[name].weight)
                module._sortal_narrow = tuple(weight.detach().to(dtype) for weight in pair)
