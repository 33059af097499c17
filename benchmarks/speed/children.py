"""Processes that measure one thing each; what they found is kept, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Children:
    """threads: of each process. cores: the only ones it may use, None for all."""

    threads: int
    cores: tuple[int, ...] | None

    def once(self, kept: Path, words: list[str]) -> dict[str, Any]:
        """The last line that ``python WORDS`` prints, as JSON; run only if ``kept`` is not there yet.

        Raises:
            RuntimeError: the process failed, with the end of what it said.
        """
        if not kept.exists():
            began = time.perf_counter()
            found = json.loads(self.run(words).splitlines()[-1])
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found) + "\n")
            print(f"{kept.parent.name}/{kept.stem}: {time.perf_counter() - began:.0f} s", flush=True)
        result: dict[str, Any] = json.loads(kept.read_text())
        return result

    def run(self, words: list[str]) -> str:
        """What ``python WORDS`` prints."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores or before)  # inherited
        try:
            done = subprocess.run(
                [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
            )
        finally:
            os.sched_setaffinity(0, before)
        if done.returncode:
            raise RuntimeError(f"python {' '.join(words)} failed:\n{done.stderr[-3000:]}")
        return done.stdout
