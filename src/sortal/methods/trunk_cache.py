"""States below the tuned layers, computed once for all epochs and runs, on disk.

One folder per model, layer and set of texts, with a file that only grows: the states of all tokens, text after text. A killed
process leaves whole tokens behind, and the next one goes on at the last whole text.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.packing import microbatches, pack
from sortal.backbone.trunk import Trunk, TrunkTexts
from sortal.methods.state_folders import alone_with, append, make_room, state_folder
from sortal.training.progress import ProgressView

_CHUNK = 512  # texts between two writes


def state_bytes(tokens: int, hidden: int, dtype: torch.dtype) -> int:
    """Bytes on disk of the states of so many tokens."""
    return tokens * hidden * dtype.itemsize


def with_trunk(
    texts: EncodedTexts, trunk: Trunk, facts: dict[str, Any], max_tokens: int, view: ProgressView, what: str
) -> TrunkTexts:
    """``texts`` with their states, those of an earlier run where there are any.

    Args:
        facts: all that decides the states besides the tokens; JSON-able.
        max_tokens: budget of a pack.
        what: they are called in the progress bar.

    Raises:
        ResourceError: more than may be kept on disk.
    """
    parameter = next(trunk.base.parameters())
    dtype, hidden = parameter.dtype, int(trunk.base.config.hidden_size)
    as_stored, stored = (torch.int16, np.int16) if dtype.itemsize == 2 else (torch.int32, np.int32)
    digest = hashlib.sha256(np.ascontiguousarray(texts.flat).tobytes())
    digest.update(texts.offsets.tobytes())
    facts = {**facts, "layer": trunk.first, "dtype": str(dtype), "texts": digest.hexdigest()}
    folder, row = state_folder(facts), state_bytes(1, hidden, dtype)
    path = folder / "states.bin"
    with alone_with(folder, facts):
        size = path.stat().st_size if path.exists() else 0
        if make_room(folder, size, max(texts.tokens * row - size, 0), "set cache_trunk to never"):
            path.unlink(missing_ok=True)
            size = 0
        done = int(np.searchsorted(texts.offsets, size // row, side="right")) - 1
        with path.open("ab") as file:
            file.truncate(int(texts.offsets[done]) * row)
        view.start(what, len(texts), done)
        for start in range(done, len(texts), _CHUNK):
            chunk = list(range(start, min(start + _CHUNK, len(texts))))
            found: dict[int, np.ndarray[Any, Any]] = {}
            for part in microbatches(texts.lengths[chunk].tolist(), max_tokens):
                rows = [chunk[i] for i in part]
                packed = pack([texts[i] for i in rows]).to(parameter.device)
                with torch.inference_mode():
                    states = trunk.below(packed).cpu()
                pieces = states.split(texts.lengths[rows].tolist())
                found |= {
                    i: piece.contiguous().view(as_stored).numpy()
                    for i, piece in zip(rows, pieces, strict=True)
                }
                view.advance(len(rows), packed.tokens)
            append(path, np.concatenate([found[i] for i in chunk]).tobytes())
        view.stop()
        every: Any = np.memmap(path, dtype=stored, mode="r", shape=(texts.tokens, hidden))
    return TrunkTexts(texts, every, dtype)
