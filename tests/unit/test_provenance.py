from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SAYS = "import json; from sortal.provenance import command_line; print(json.dumps(command_line()))"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (["-m", "study"], ["python", "-m", "study"]),
        (["-m", "study.part"], ["python", "-m", "study.part"]),
        (["study/part.py"], ["part.py"]),
    ],
)
def test_the_command_is_what_would_be_typed_again(tmp_path, how, expected):
    package = tmp_path / "study"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "part.py"):
        (package / name).write_text("" if name == "__init__.py" else SAYS)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, *how, "--seeds", "a b"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == [*expected, "--seeds", "a b"]
