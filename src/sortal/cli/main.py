"""``sortal``: one verb per file, errors as sentences, documented exit codes.

A verb's module is imported when the verb is called, so that ``sortal --help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from sortal import __version__

VERBS = {
    "train": ("sortal.cli.train:app", "fine-tune, calibrate and evaluate a classifier on a labelled file"),
    "plan": ("sortal.cli.plan:app", "what a training run would take: memory, tokens, time, which GPUs"),
    "evaluate": ("sortal.cli.evaluate:app", "measure a saved classifier on labelled data, with intervals"),
    "predict": ("sortal.cli.predict:app", "label files, or lines on stdin"),
    "serve": ("sortal.cli.serve:app", "answer HTTP requests with saved classifiers"),
    "export": (
        "sortal.cli.export:app",
        "write a classifier for transformers, vLLM, ONNX, llama.cpp; checked",
    ),
    "compare": ("sortal.cli.compare:app", "several methods on one split: tables, tests, which to take"),
    "import": ("sortal.cli.import_:app", "collections in formats of their own as files to train on"),
    "check": ("sortal.cli.check:app", "what is wrong with labelled data: duplicates, leaks, doubtful labels"),
    "report": ("sortal.cli.report:app", "one page about a run or a comparison: figures, plots, mistakes"),
    "models": ("sortal.cli.models:app", "list, pull and show base models"),
    "doctor": (
        "sortal.cli.doctor:command",
        "what this machine can do, and what to install for what is missing",
    ),
    "config": ("sortal.cli.config:app", "the settings of a run: schema, show, validate"),
}
HELP = """Usage: sortal VERB [OPTIONS] …

  Fine-tune causal language models into text classifiers, and know how good they are.

Verbs:
{verbs}

Options:
  --version   show the version
  -h, --help  show this text; `sortal VERB --help` shows a verb's options

Exit codes:
  0 done; 1 a defect of Sortal; 2 bad input or settings; 3 the machine cannot do it (memory, disk, network,
  a locked folder); 130 / 143 stopped by Ctrl-C / SIGTERM after a checkpoint
"""


# No room, no permission, a broken disk: where no better sentence was found, this one still beats a traceback.
_MACHINE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(
            HELP.format(verbs="\n".join(f"  {name:<10} {line}" for name, (_, line) in VERBS.items())), end=""
        )
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"sortal {__version__}")
        return 0
    from sortal.backbone.collector import own_process
    from sortal.errors import Interrupted, SortalError

    if argv is None:  # called by the command, not by a program that has things of its own
        own_process()
    try:
        with _clean_termination():
            return _run(arguments[0], arguments[1:])
    except SortalError as error:
        print(error if isinstance(error, Interrupted) else f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        print(f"error: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 3


@contextmanager
def _clean_termination() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that locks and temporaries go; inside training `StopRequest` takes over.

    Not with several processes: one that waits for the others in native code would never see it.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or int(os.environ.get("WORLD_SIZE", "1")) > 1
    ):
        yield
        return

    def stop(number: int, frame: object) -> None:
        print("stopped", file=sys.stderr)
        raise SystemExit(128 + number)

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if earlier is None else earlier)


def _run(verb: str, arguments: list[str]) -> int:
    if verb not in VERBS:
        from sortal.data.problems import nearest
        from sortal.errors import ConfigError

        raise ConfigError(
            f"unknown verb {verb!r}{nearest(verb, list(VERBS))}", f"choose from {', '.join(VERBS)}"
        )
    import typer

    from sortal.backbone.kernels import bound_kernels

    bound_kernels()
    module, _, attribute = VERBS[verb][0].partition(":")
    target: Any = getattr(import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False)
        target.command()(function)
    words = spread_lists(arguments, POSITIONALS.get(verb, 1))
    try:
        done = typer.main.get_command(target).main(words, f"sortal {verb}", standalone_mode=False)
    except SystemExit as stop:
        # 1 is what typer makes of a reader that closed the pipe, as `sortal predict … | head` does
        return 0 if stop.code == 1 else int(stop.code or 0)
    except Exception as error:
        ours = _usage_error(error, verb)
        if ours is None:
            raise
        raise ours from None
    if done == 130:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return done if isinstance(done, int) else 0


def _usage_error(error: Exception, verb: str) -> BaseException | None:
    """Typer's usage errors as ours; their classes have moved between its releases, so they are known by form."""
    from sortal.errors import ConfigError

    if type(error).__name__ == "Abort":  # what older releases make of Ctrl-C
        return KeyboardInterrupt()
    if not hasattr(error, "format_message"):
        return None
    what = str(error.format_message()).strip().rstrip(".")
    possible = sorted(getattr(error, "possibilities", None) or ())
    if possible:
        from difflib import get_close_matches

        what = what.partition(" (Possible")[0]
        typed = what.rpartition(" ")[2].strip("'")
        possible = get_close_matches(typed, possible, n=1, cutoff=0.7) or possible
        what = f"{what}; did you mean {' or '.join(possible)}?"
    if type(error).__name__ == "NoArgsIsHelpError":
        what = f"{verb} needs a verb of its own"
    return ConfigError(what[:1].lower() + what[1:], f"see sortal {verb} --help")


def spread_lists(arguments: list[str], positionals: int = 1) -> list[str]:
    """``DATA --text title body`` → ``DATA --text title --text body`` for options that take several values.

    Only once the verb's own ``positionals`` were given; before that, a second word may be one of them, unless it is a
    ``key=value`` after ``--set``.
    """
    result: list[str] = []
    option, values, given = "", 0, 0
    for word in arguments:
        if word.startswith("-") and word != "-":
            option, values = word, 0
        elif values > 0 and (
            (option == "--set" and "=" in word) or (option in LISTS and given >= positionals)
        ):
            result.append(option)
        elif not option or option in SWITCHES or "=" in option or values > 0:
            given += 1
        values += not word.startswith("-")
        result.append(word)
    return result


POSITIONALS = {"evaluate": 2, "predict": 2, "import": 2}
LISTS = frozenset({"--text", "--label-columns", "--only"})
SWITCHES = frozenset(
    {
        "--resume",
        "--dry-run",
        "--json",
        "--force",
        "--accept-terms",
        "--texts",
        "--no-texts",
        "--int8",
        "--without-blend",
    }
)

if __name__ == "__main__":
    sys.exit(main())
