"""TensorBoard events, when the package is there; nothing otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Log = Callable[[int, dict[str, float]], None]


@contextmanager
def open_log(folder: Path | None) -> Iterator[Log]:
    """A function that records figures per step under ``folder`` (None: nowhere)."""
    try:
        if folder is None:
            raise ImportError
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield lambda step, figures: None
        return
    writer = SummaryWriter(str(folder))

    def log(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    try:
        yield log
    finally:
        writer.close()
