"""People read stderr, programs the last line of stdout."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from sortal.cli import output


def test_lines_and_tables_go_to_stderr(capsys):
    output.say("a line")
    table = Table("heading")
    table.add_row("cell")
    output.show(table)
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("a line\n")
    assert "cell" in found.err


def test_the_summary_is_one_line_of_json_on_stdout(capsys):
    values = {"path": Path("a/b"), "label": "é\nx", "n": 3}
    output.summary(values)
    found = capsys.readouterr()
    assert found.err == ""
    assert found.out.count("\n") == 1
    assert json.loads(found.out) == {"path": "a/b", "label": "é\nx", "n": 3}
