"""Training rows that a prompt shows as examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHOT_TOKENS = 64  # of an example's text


@dataclass(frozen=True)
class Shot:
    """An example for the prompt: a text and the positions of its labels."""

    text: str
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class EncodedShot:
    """An example whose text is ids already, those of `Prompt.shot_encoder`."""

    ids: npt.NDArray[np.int32]
    labels: tuple[int, ...]
