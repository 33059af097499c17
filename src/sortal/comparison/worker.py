"""One cell in a process of its own: its peak memory is its own, and what kills it does not kill the comparison."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from sortal.comparison.cells import Cell
from sortal.training.atomic import write_text

Process = subprocess.Popen[bytes]
_PR_SET_PDEATHSIG = 1


def start_cell(cell: Cell, settings: Path, log: Path, made: Mapping[str, Path] | None = None) -> Process:
    """Start training and evaluating ``cell`` with ``sortal train --resume``.

    Args:
        settings: YAML file to write: ``sortal train --config`` of it runs the same cell alone.
        log: file that takes its words.
        made: of a blend, ``tuned`` and ``tfidf``: folders of finished runs whose models it adds.
    """
    given = cell.config.model_dump(mode="json", exclude_unset=True)
    write_text(settings, yaml.safe_dump(given, allow_unicode=True, sort_keys=False))
    command = [sys.executable, "-m", "sortal", "train", "--config", str(settings), "--resume"]
    for part, folder in (made or {}).items():
        command += [f"--{part}", str(folder)]
    with log.open("ab") as words:
        # A session of its own: Ctrl-C reaches this process only, which then asks the cell to stop, once.
        return subprocess.Popen(
            command, stdout=words, stderr=words, start_new_session=True, preexec_fn=die_with_parent
        )


def stop_cells(processes: Sequence[Process]) -> None:
    """Ask all to stop, wait until their checkpoints are written, and end what is left at a second Ctrl-C."""
    for process in processes:
        process.terminate()
    with suppress(KeyboardInterrupt):
        for process in processes:
            process.wait()
    for process in processes:
        process.kill()


def last_line(log: Path) -> str:
    """The newest line of a log, without reading all of it."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 4096))
        lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


def failure(log: Path) -> str:
    """Why the run that wrote ``log`` failed: its last error in one line, or else its last words."""
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1]
    return last_line(log)


def die_with_parent() -> None:
    """Called in a new process: a cell must not go on alone when the comparison is killed outright, but write its checkpoint and stop."""
    with suppress(
        OSError, AttributeError
    ):  # Linux only; elsewhere the folder's lock still keeps two writers apart
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
