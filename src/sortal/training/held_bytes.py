"""What a computation holds in memory at its peak, counted tensor by tensor instead of being read off a device."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default)


class HeldBytes(TorchDispatchMode):
    """``with HeldBytes() as held:`` — bytes of the tensors made inside, while they live.

    Matrix products are given their memory and not computed: what is held does not depend on their values, and most time goes
    into them. So the results inside say nothing.

    peak: the most at one time. What existed before is not counted, and neither is what a library keeps for itself.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now = 0
        self._live: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _PRODUCTS:
            left, right = args[-2:]
            out = left.new_empty(*left.shape[:-1], right.shape[-1])
        elif func is torch.ops.aten.addmm_.default:
            out = args[0]
        else:
            out = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
        for leaf in tree_leaves(out):
            # A view or a result in place lives in memory that was there before, counted or not.
            if _is_tensor(leaf) and leaf.untyped_storage()._cdata not in given:
                self._see(leaf.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._live:
            return

        def gone(reference: Any) -> None:
            self._now -= size
            self._live.pop(key, None)

        self._live[key] = weakref.ref(storage, gone)
        self._now += size
        self.peak = max(self.peak, self._now)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
