"""The door: verbs, usage errors, several values, exit codes; nothing heavy is imported before it is needed."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest

from sortal import __version__
from sortal.cli import main as door
from sortal.cli.main import HELP, VERBS, main, spread_lists
from sortal.errors import Interrupted, LockedError

HEAVY = ("torch", "transformers", "typer", "pydantic", "pandas", "numpy", "pyarrow", "rich")


def imported_after(code: str) -> str:
    """Names of heavy modules that ``code`` brings into a fresh interpreter."""
    check = f"{code}\nimport sys; print('loaded:', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return done.stdout.rpartition("loaded:")[2].strip()


@pytest.mark.parametrize(
    "code",
    [
        "import sortal",
        "from sortal.cli.main import main; main(['--help'])",
        "from sortal.cli.main import main; main([])",
        "from sortal.cli.main import main; main(['--version'])",
    ],
)
def test_help_and_import_load_nothing_heavy(code):
    assert imported_after(code) == ""


def test_a_verbs_own_help_does_not_load_torch():
    code = "from sortal.cli.main import main\nfor verb in ('train', 'evaluate', 'predict', 'config'): main([verb, '--help'])"
    assert "torch" not in imported_after(code).split()


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_lists_the_verbs_and_exit_codes(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    for verb, (_, line) in VERBS.items():
        assert f"  {verb} " in shown
        assert line in shown
    assert "Exit codes:" in HELP


def test_no_verb_at_all_is_a_mistake_but_helps(capsys):
    assert main([]) == 2
    assert "Verbs:" in capsys.readouterr().out


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sortal {__version__}\n"


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "sortal", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"sortal {__version__}\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian", "d.csv"], "unknown verb 'trian'; did you mean 'train'?"),
        (["--jsn"], "unknown verb '--jsn'"),
        (["train", "d.csv", "--lable", "x"], "no such option: --lable; did you mean --label?"),
        (["train", "d.csv", "--zzz"], "no such option: --zzz"),
        (["train", "d.csv", "more"], "got unexpected extra argument"),
        (["train", "d.csv", "--epochs", "two"], "invalid value for '--epochs'"),
        (["train", "d.csv", "--seed"], "option '--seed' requires an argument"),
        (["predict", "model"], "missing argument 'data'"),
        (["predict", "model", "d.csv", "--top", "0"], "invalid value for '--top'"),
        (["config", "shwo"], "no such command 'shwo'"),
        (["config"], "config needs a verb of its own"),
    ],
)
def test_a_usage_error_is_one_sentence_and_what_to_do(words, sentence, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].lower().startswith(f"error: {sentence}".lower())
    assert said[1].startswith("→ ")
    assert len(said) == 2


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def verb(*arguments: object) -> int:
        raise error

    monkeypatch.setattr(door, "_run", verb)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (LockedError("it is in use", "wait"), 3, "error: it is in use\n→ wait\n"),
        (Interrupted("stopped by SIGTERM", "go on", 15), 143, "stopped by SIGTERM\n→ go on\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 3, "error: /x/y: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "error: a file: No space left on device\n"),
    ],
)
def test_errors_become_sentences_and_exit_codes(error, code, said, monkeypatch, capsys):
    raising(error, monkeypatch)
    assert main(["train"]) == code
    assert capsys.readouterr().err == said


def test_a_defect_keeps_its_traceback(monkeypatch):
    for defect in (ZeroDivisionError(), FileNotFoundError(errno.ENOENT, "gone", "/x")):
        raising(defect, monkeypatch)
        with pytest.raises(type(defect)):
            main(["train"])


def test_sigterm_unwinds_and_the_earlier_handler_comes_back(monkeypatch, capsys):
    cleaned = []

    def verb(*arguments: object) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)
        return 0

    monkeypatch.setattr(door, "_run", verb)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        main(["train"])
    assert stopped.value.code == 143
    assert cleaned == [True]
    assert capsys.readouterr().err == "stopped\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("words", "positionals", "expected"),
    [
        ("d.csv --text a b --label c", 1, "d.csv --text a --text b --label c"),
        ("d.csv --set a=1 b=2 c=[x]", 1, "d.csv --set a=1 --set b=2 --set c=[x]"),
        ("d.csv --label-columns a b,c d", 1, "d.csv --label-columns a --label-columns b,c --label-columns d"),
        ("d.csv --text a --json --text b c", 1, "d.csv --text a --json --text b --text c"),
        ("--text a d.csv", 1, "--text a d.csv"),
        ("--label c d.csv --text a b", 1, "--label c d.csv --text a --text b"),
        ("--resume d.csv --text a b", 1, "--resume d.csv --text a --text b"),
        ("--text=a d.csv", 1, "--text=a d.csv"),
        ("m --text a d.csv", 2, "m --text a d.csv"),
        ("m d.csv --text a b", 2, "m d.csv --text a --text b"),
        ("m - --text a b", 2, "m - --text a --text b"),
        ("show --set a=1 f.yaml", 1, "show --set a=1 f.yaml"),
        ("--config f.yaml --set a=1 b=2 --text c", 1, "--config f.yaml --set a=1 --set b=2 --text c"),
        ("d.csv --epochs -1 --text a", 1, "d.csv --epochs -1 --text a"),
        ("", 1, ""),
    ],
)
def test_options_of_several_values_are_spread(words, positionals, expected):
    assert spread_lists(words.split(), positionals) == expected.split()
