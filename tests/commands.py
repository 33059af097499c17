"""``sortal …`` in processes of their own, for cases about signals, kills, locks, exit codes and several processes.

They are forked from a server that has the libraries imported already, which saves seconds for each.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pytest",  # the children import the main module of this process
        "pandas",
        "sortal.run",
        "sortal.dry_run",
        "sortal.methods.head",
        "sortal.methods.instruct",
        "sortal.cli.train",
        "sortal.cli.evaluate",
        "sortal.cli.predict",
        "sortal.serving.server",
        "rich.table",
        "scipy.optimize",
        "torch.utils.tensorboard",
        "transformers.models.llama.modeling_llama",
    ]
)


class Command:
    """A started ``sortal *argv``.

    Args:
        folder: where it runs.
        before: called in the process first, to arrange an accident; importable, as those in `accidents`.
    """

    def __init__(
        self,
        *argv: str | Path,
        folder: Path,
        before: Callable[[], Any] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        number = len(list(folder.glob(".stderr-*")))
        self._out, self._err = folder / f".stdout-{number}", folder / f".stderr-{number}"
        self._out.touch()
        self._err.touch()
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when the server starts
        words = [str(word) for word in argv]
        self._process = _CONTEXT.Process(
            target=_main,
            args=(words, folder, self._out, self._err, before, {"SORTAL_DEVICE": "cpu", **(env or {})}),
        )
        self._process.start()
        atexit.register(self._process.kill)  # a failed test leaves none waiting
        self.pid: int = self._process.pid or 0

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._out.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._err.read_text(encoding="utf-8")

    def send(self, number: int = signal.SIGKILL) -> None:
        """A signal, SIGKILL by default."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = 300) -> int:
        """Its exit code; minus the number of the signal that killed it."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"still running after {seconds} s:\n{self.stderr}")
        return self._process.exitcode

    def ended_within(self, seconds: float) -> bool:
        """Wait at most so long for the end."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def until(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        """Wait for something the process does."""
        for _ in range(int(seconds / 0.005)):
            if condition():
                return
            if self.ended_within(0.005):
                break
        assert condition(), f"it ended ({self._process.exitcode}) or took too long:\n{self.stderr}"


def _main(
    argv: list[str],
    folder: Path,
    out: Path,
    err: Path,
    before: Callable[[], Any] | None,
    env: dict[str, str],
) -> None:
    os.environ.update(env)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs behind it without
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY),
        (2, err, os.O_WRONLY),
    ):
        os.dup2(os.open(path, flags | (os.O_CREAT | os.O_APPEND if descriptor else 0)), descriptor)
    if before is not None:
        before()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    sys.argv = ["sortal", *argv]
    from sortal.cli.main import main

    raise SystemExit(main(argv))
