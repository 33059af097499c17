"""``sortal check`` as a command: what is shown, the JSON line, mistakes as one sentence."""

from __future__ import annotations

import json

import pytest

from sortal.cli.main import main


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        "text,label\nHello [red]world[/red],a\nhello [red]world[/red],a\nother,b\nhello [red]World[/red],b\n"
    )
    return path


def test_findings_with_examples_for_people_and_one_line_for_programs(data, capsys):
    assert main(["check", str(data), "--json"]) == 0
    shown = capsys.readouterr()
    assert "warning duplicates: 1 row (25.0%) repeats" in " ".join(shown.err.split())
    assert "row 2  hello [red]world[/red]" in shown.err
    assert "keep one of each" in shown.err
    assert "leakage was not checked" in shown.err
    assert "0 errors, 3 warnings, 0 notes in 4 rows" in " ".join(shown.err.split())
    (line,) = shown.out.splitlines()
    assert {finding["check"] for finding in json.loads(line)["findings"]} == {
        "duplicates",
        "conflicts",
        "rare-labels",
    }


def test_a_text_cannot_control_the_terminal(tmp_path, capsys):
    path = tmp_path / "train.csv"
    path.write_text("text,label\n\x1b[2Jbell\x07 \u202eevil,a\n\x1b[2Jbell\x07 \u202eevil,a\n,b\n")
    assert main(["check", str(path)]) == 0
    shown = capsys.readouterr().err
    assert "row 2  ·[2Jbell· ·evil" in shown
    assert "row 3  (empty)" in shown
    assert "\x1b[2J" not in shown


def test_without_json_stdout_is_empty(data, capsys):
    assert main(["check", str(data)]) == 0
    assert capsys.readouterr().out == ""


def test_fix_says_what_was_written(data, capsys):
    out = data.with_name("clean.csv")
    assert main(["check", str(data), "--fix", str(out)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"3 rows written to {out} (1 removed, 0 changed)" in said
    assert "clean.log.csv" in said
    assert out.read_text().count("\n") == 4


def test_several_values_and_lists(data, capsys):
    assert (
        main(
            [
                "check",
                str(data),
                "--text",
                "text",
                "--label",
                "label",
                "--only",
                "duplicates",
                "conflicts",
                "--json",
            ]
        )
        == 0
    )
    assert list(json.loads(capsys.readouterr().out)["seconds"]) == ["duplicates", "conflicts"]
    assert main(["check", str(data), "--only", "duplicates,conflicts", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["seconds"]) == ["duplicates", "conflicts"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "leaks"], "unknown check 'leaks'; did you mean 'leakage'?"),
        (["--fix", "train.csv"], "would overwrite train.csv"),
        (["--label", "lable"], "did you mean 'label'?"),
        (["--max-length", "0"], "less than one word"),
        (["--task", "some"], "'some' is not auto, single or multi"),
        (["--date", "when"], "no column 'when'"),
    ],
)
def test_a_mistake_is_one_sentence_with_what_to_do(data, words, sentence, capsys, monkeypatch):
    monkeypatch.chdir(data.parent)
    assert main(["check", data.name, *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "→" in said
    assert "Traceback" not in said


def test_a_missing_file_is_one_sentence(tmp_path, capsys):
    assert main(["check", str(tmp_path / "nowhere.csv")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_help_does_not_load_torch():
    import subprocess
    import sys

    code = "from sortal.cli.main import main; main(['check', '--help']); import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
