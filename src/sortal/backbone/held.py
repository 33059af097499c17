"""Frozen weights that several models of one process have in common, held once.

Every model keeps a network of its own, adapters included, so none has to be switched to another adapter and each computes what it computes alone.
Only the frozen tensors are the same objects.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from sortal.backbone.fused import dense

_CURRENT: ContextVar[HeldWeights | None] = ContextVar("held_weights", default=None)


class HeldWeights:
    """Parameters of the decoders that were loaded inside `sharing`, by name.

    A parameter is replaced by one that is held already when name, shape, type, device and every value are the same. So nothing has to
    be known about where two models come from, a model cut at a layer shares the layers that are left, and no answer changes.

    Attributes:
        spared: bytes that did not have to be held again, so far.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[Any, ...], list[nn.Parameter]] = {}
        self.spared = 0

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Models loaded inside, in this thread, take part; what came to be held twice is given back to the system at the end."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)
            _return_freed()

    def place(self, model: nn.Module, device: torch.device | None) -> None:
        """Move ``model`` to ``device``, one parameter at a time: no second copy of the whole comes to lie there."""
        found: dict[int, Any] = {}
        for path, module in model.named_modules():
            for name, own in module.named_parameters(recurse=False):
                four_bit = hasattr(own, "quant_state")
                if type(own) is not nn.Parameter and not four_bit:
                    continue  # a quantisation that keeps more than this tensor
                if id(own) not in found:  # tied weights stay tied
                    found[id(own)] = self._one(f"{path}.{name}", own, device)
                setattr(module, name, found[id(own)])
                if four_bit and hasattr(module, "quant_state"):
                    module.quant_state = found[id(own)].quant_state  # bitsandbytes keeps it in both
        if device is not None:
            model.to(device)

    def _one(self, path: str, own: nn.Parameter, device: torch.device | None) -> nn.Parameter:
        if device is not None and own.device != device:
            own = nn.Parameter(own.detach().to(device), requires_grad=own.requires_grad)
        key = (path, own.shape, own.dtype, own.device)
        for held in self._held.setdefault(key, []):
            # Of 4-bit parameters, what they stand for: equal codes may have other scales.
            if torch.equal(dense(held, torch.float32), dense(own, torch.float32)):
                self.spared += held.nbytes
                return held
        self._held[key].append(own)
        return own


def sharing_now() -> bool:
    """Whether this is inside `HeldWeights.sharing`: what a model would change in its weights, others would get as well."""
    return _CURRENT.get() is not None


def place(model: nn.Module, device: torch.device | None) -> None:
    """Move a frozen model to ``device`` (None: it lies where it shall); inside `HeldWeights.sharing`, take what is held already."""
    held = _CURRENT.get()
    if held is not None:
        held.place(model, device)
    elif device is not None:
        model.to(device)


def _return_freed() -> None:
    # glibc keeps freed blocks of some megabytes: of a second model in fp32, 380 of the 540 MB that it did not need in the end.
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in other C libraries
        if trim is not None:
            trim(0)
