"""Python's collector of cycles is off while things are imported and read, and on again afterwards whatever happened."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from sortal.backbone import collector
from sortal.classifier import load
from sortal.errors import ModelError


def test_the_outermost_pause_ends_it():
    with collector.paused():
        assert not gc.isenabled()
        with collector.paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_somebody_switched_off_stays_off():
    gc.disable()
    try:
        with collector.paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_model_that_cannot_be_read_leaves_it_on(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "sortal.model_folder.read_meta", lambda folder: seen.append(gc.isenabled()) or _refuse(folder)
    )
    with pytest.raises(ModelError):
        load(tmp_path)
    assert seen == [False]
    assert gc.isenabled()


def _refuse(folder):
    raise ModelError(f"{folder} is not a model folder", "give one")


@pytest.mark.parametrize(("call", "kept"), [("main()", True), ("main(sys.argv[1:])", False)])
def test_only_a_process_of_the_command_itself_leaves_its_objects_unsearched(call, kept):
    code = (
        "import atexit, gc, sys\nsys.argv = ['sortal', 'config', 'schema']\n"
        "atexit.register(lambda: print('KEPT', gc.get_freeze_count() > 1000))\n"  # runs last
        f"from sortal.cli.main import main\n{call}\n"
        "from sortal.backbone.collector import paused\nbefore = gc.get_freeze_count()\nmine = [[] for _ in range(2000)]\n"
        "with paused(): pass\nassert gc.isenabled()\nprint('PAUSED', gc.get_freeze_count() - before > 2000)\n"
        "first, more = gc.get_freeze_count(), [[] for _ in range(2000)]\n"
        "with paused(): pass\nassert gc.get_freeze_count() == first\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == [f"PAUSED {kept}", f"KEPT {kept}"]
