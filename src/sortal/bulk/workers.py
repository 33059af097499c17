"""How many copies of a model a cluster takes, and what each of them holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sortal.errors import ResourceError

_USUAL_CPUS = 4  # a small model gains little from more


@dataclass(frozen=True)
class Crew:
    """So many workers, each with so many cores and GPUs of its own."""

    workers: int
    cpus: int
    gpus: int


def crew(nodes: Sequence[Mapping[str, float]], workers: int | None = None) -> Crew:
    """One worker per GPU, and without GPUs one per four cores, unless ``workers`` says how many.

    Args:
        nodes: resources of every node, ``{"CPU": 16, "GPU": 1, …}``.
        workers: None chooses.

    Raises:
        ResourceError: the cluster does not have room for so many.
    """
    cores = [int(node.get("CPU", 0)) for node in nodes]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus:
        wanted = workers or gpus
        if wanted > gpus:
            raise _too_many(wanted, f"{gpus} GPUs, and each worker takes one")
        return Crew(wanted, 1, 1)
    wanted = workers or max(1, sum(count // _USUAL_CPUS for count in cores))
    for cpus in range(_USUAL_CPUS, 0, -1):
        if sum(count // cpus for count in cores) >= wanted:
            return Crew(wanted, cpus, 0)
    raise _too_many(wanted, f"{sum(cores)} cores, and each worker takes one at least")


def _too_many(wanted: int, has: str) -> ResourceError:
    return ResourceError(f"the cluster has no room for {wanted} workers: it has {has}", "lower --workers")
