"""Bulk prediction on a real Ray cluster of two workers: the answers of the local engine, also when a worker dies."""

from __future__ import annotations

import csv
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from commands import Command
from sortal.bulk.ray_engine import ray_engine
from sortal.cli.main import main
from tiny_runs import rows, write_csv

ROWS = 26_000  # seven shards
RAY = ("--engine", "ray", "--workers")


class Clusters:
    """Commands that start a cluster; whatever happens to the test, no process of theirs outlives it."""

    def __init__(self) -> None:
        self._mark = f"test-{uuid.uuid4()}"

    def command(self, *words: str | Path, workers: int, folder: Path) -> Command:
        env = {"SORTAL_TEST_MARK": self._mark}
        return Command(
            "predict", *words, *RAY, str(workers), folder=folder, before=naming_threads_at_shutdown, env=env
        )

    def processes(self) -> list[psutil.Process]:
        """The commands and everything they started, which inherits their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SORTAL_TEST_MARK") == self._mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def clusters() -> Iterator[Clusters]:
    pytest.importorskip("ray.data", reason='Ray is not installed: pip install "sortal[ray]"')
    made = Clusters()
    yield made
    _, alive = psutil.wait_procs(made.processes(), timeout=10)
    left = [process for process in alive if not _ended(process)]
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    assert not left, "a command that has ended leaves nothing behind"


def _ended(process: psutil.Process) -> bool:
    """Whether it runs no more; one that nobody has waited for counts, which is up to the machine's first process."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def naming_threads_at_shutdown() -> None:
    """A thread that asks Ray for anything after its shutdown ends the process there and then, with exit code 1."""
    ray_engine(None, None)  # Ray is imported as the command would
    import ray

    shutdown = ray.shutdown

    def named() -> None:
        print("at shutdown:", *(thread.name for thread in threading.enumerate()), file=sys.stderr)
        shutdown()

    ray.shutdown = named


def scorers(command: Command) -> list[psutil.Process]:
    """The actors that score."""
    found = []
    for process in psutil.Process(command.pid).children(recursive=True):
        try:
            if "ray::MapWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    texts = [f"{text} {i}" for i, (text, _) in enumerate(rows(ROWS, ("good", "bad", "odd")))]
    write_csv(folder / "a.csv", [(text,) for text in texts[:20_000]], ("text",))
    write_csv(folder / "b.csv", [(text,) for text in texts[20_000:]], ("text",))
    return folder


@pytest.mark.slow
def test_a_killed_worker_costs_nothing(made, data, tmp_path, clusters):
    model, local, out = made("tfidf"), tmp_path / "local", tmp_path / "ray"
    assert main(["predict", str(model), str(data), "--out", str(local)]) == 0
    command = clusters.command(model, data, "--out", out, workers=2, folder=tmp_path)
    command.until(lambda: any(out.rglob("*.shard")))
    victim = scorers(command)[0]
    victim.kill()
    assert not (out / "a.csv").exists(), "killed in the middle"
    assert command.wait() == 0, command.stderr
    assert not victim.is_running()
    for name in ("a.csv", "b.csv"):
        assert (out / name).read_bytes() == (local / name).read_bytes()
        with (out / name).open(newline="") as file:
            ids = [row["id"] for row in csv.DictReader(file)]
        assert ids == [str(n) for n in range(1, len(ids) + 1)]
    assert sorted(path.name for path in out.iterdir()) == ["a.csv", "b.csv"]
    assert command.stderr.endswith(f"{ROWS:,} rows written to {out}\n")


@pytest.mark.slow
def test_a_stopped_prediction_goes_on_with_the_other_engine(made, data, tmp_path, clusters):
    words = ("predict", str(made("tfidf")), str(data / "a.csv"), "--out")
    command = clusters.command(*words[1:], tmp_path / "p.csv", workers=1, folder=tmp_path)
    command.until(lambda: any(tmp_path.rglob("*.shard")))
    command.send(signal.SIGTERM)
    assert command.wait() == 143, command.stderr
    assert "stopped by SIGTERM; " in command.stderr
    (threads,) = (line for line in command.stderr.splitlines() if line.startswith("at shutdown:"))
    assert "MainThread" in threads
    assert "sortal-ray" not in threads
    assert not (tmp_path / "p.csv").exists()
    assert any(tmp_path.rglob("*.shard"))
    assert main([*words, str(tmp_path / "p.csv")]) == 0
    assert main([*words, str(tmp_path / "local.csv")]) == 0
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


def test_without_ray_it_says_what_to_install(made, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["predict", str(made("tfidf")), str(data), "--out", str(tmp_path / "p.csv"), *RAY, "2"]) == 3
    assert 'run pip install "sortal[ray]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
