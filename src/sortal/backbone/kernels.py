"""How many compiled kernels torch's CPU library keeps."""

from __future__ import annotations

import os

# It keeps what it compiled for every number of tokens of a batch, 1,024 times by default. Measured in bf16: predicting 40 batches with a
# head of 135 M parameters took 330 MB; kept 64 times they took 60 MB and no more time, and the growth ended. Tuning four of its layers
# for 80 steps grew from 0.65 to 1.85 GB; kept 64 times, to 0.86 GB, in no more time.
KEPT_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def bound_kernels() -> None:
    """Bound them, unless the environment says how many; call this before torch is imported, which reads it."""
    for variable, value in KEPT_KERNELS.items():
        os.environ.setdefault(variable, value)
