"""``sortal``: one verb per file, errors as sentences, documented exit codes.

A verb's module is imported when the verb is called, so that ``sortal --help`` answers at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from sortal import __version__

VERBS = {
    "train": ("sortal.cli.train:app", "fine-tune, calibrate and evaluate a classifier on a labelled file"),
    "evaluate": ("sortal.cli.evaluate:app", "measure a saved classifier on labelled data, with intervals"),
    "predict": ("sortal.cli.predict:app", "label a file, or lines on stdin"),
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
    from sortal.errors import SortalError

    try:
        return _run(arguments[0], arguments[1:])
    except SortalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _run(verb: str, arguments: list[str]) -> int:
    if verb not in VERBS:
        from sortal.config import nearest
        from sortal.errors import ConfigError

        raise ConfigError(
            f"unknown verb {verb!r}{nearest(verb, list(VERBS))}", f"choose from {', '.join(VERBS)}"
        )
    import typer

    module, _, attribute = VERBS[verb][0].partition(":")
    target: Any = getattr(import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False)
        target.command()(function)
    try:
        typer.main.get_command(target).main(args=spread_lists(arguments), prog_name=f"sortal {verb}")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def spread_lists(arguments: list[str]) -> list[str]:
    """``DATA --text title body`` → ``DATA --text title --text body`` for options that take several values.

    Only once the verb's own positional argument was given; before that, a second word may be it.
    """
    result: list[str] = []
    option, values, positional = "", 0, False
    for word in arguments:
        if word.startswith("-") and word != "-":
            option, values = word, 0
        elif option in LISTS and values > 0 and positional:
            result.append(option)
        elif not option or option in SWITCHES or "=" in option or values > 0:
            positional = True
        values += not word.startswith("-")
        result.append(word)
    return result


LISTS = frozenset({"--text", "--label-columns", "--set"})
SWITCHES = frozenset({"--resume", "--dry-run", "--json", "--force", "--accept-terms"})

if __name__ == "__main__":
    sys.exit(main())
