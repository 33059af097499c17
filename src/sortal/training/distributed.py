"""One process or several: who I am, and how gradients, scores and stop requests become common.

The processes of ``torchrun`` or ``accelerate launch`` each take part of every optimiser step's examples. Gradients are *summed*
(each already carries its weight ``1 / examples in the step``), so any number of processes takes the same step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import get_int_from_env

# How torchrun and the common mpirun programs tell how many processes there are.
_SIZES = ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"]


@dataclass(frozen=True)
class Processes:
    """This process among ``world`` equal ones."""

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def share(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This process's part of a step's examples; may be empty."""
        return indices[self.rank :: self.world]

    def sum_(self, tensors: Iterable[torch.Tensor]) -> None:
        """Add up ``tensors`` over all processes, in place, as one message."""
        if self.world == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([t.detach().reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.detach().copy_(piece.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set anywhere; all processes must ask together."""
        if self.world == 1:
            return flag
        value = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(value)
        return bool(value.item() > 0)

    def largest(self, number: int) -> int:
        """The largest ``number`` of any process; all processes must ask together."""
        if self.world == 1:
            return number
        value = torch.tensor([number], device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return int(value.item())

    def share_object(self, value: Any) -> Any:
        """The main process's ``value``, everywhere."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()


def alone(device: torch.device) -> Processes:
    """One process on ``device``, whatever a launcher has set up."""
    return Processes(0, 1, device)


def processes() -> Processes:
    """Join the process group that the launcher set up; alone when there is none."""
    cpu = not torch.cuda.is_available() or os.environ.get("SORTAL_DEVICE") == "cpu"
    if get_int_from_env(_SIZES, 1) == 1:
        return Processes(0, 1, torch.device("cpu" if cpu else "cuda"))
    state = PartialState(cpu=cpu)
    return Processes(state.process_index, state.num_processes, state.device)
