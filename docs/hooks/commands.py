"""The reference of the command line, from the definitions that ``sortal VERB --help`` shows."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer

from sortal.cli.main import VERBS

PAGE, MARK = "reference/cli.md", "<!-- verbs -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the verbs where the page has its mark."""
    if page.file.src_uri != PAGE:
        return markdown
    return markdown.replace(MARK, "\n".join(line for verb in VERBS for line in _verb(verb)))


def _verb(verb: str) -> Iterator[str]:
    command = _definition(verb)
    yield f"\n## sortal {verb}\n"
    yield f"{_sentence(command.help)}\n"
    subverbs = getattr(command, "commands", {})
    if not subverbs or command.invoke_without_command:
        yield from _usage(command, f"sortal {verb}")
    for name, below in subverbs.items():
        yield f"\n### sortal {verb} {name}\n"
        yield f"{_sentence(below.help)}\n"
        yield from _usage(below, f"sortal {verb} {name}")


def _definition(verb: str) -> Any:
    """The command of a verb, as `sortal.cli.main` makes it."""
    module, _, attribute = VERBS[verb][0].partition(":")
    target = getattr(import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False)
        target.command()(function)
    return typer.main.get_command(target)


def _usage(command: Any, name: str) -> Iterator[str]:
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [
        item for item in command.params if item.param_type_name == "option" and item.opts != ["--help"]
    ]
    words = " ".join(_argument(item) for item in arguments)
    yield f"```text\n{' '.join(filter(None, (name, words, '[OPTIONS]' if options else '')))}\n```\n"
    rows = [(_argument(item), item.help or "") for item in arguments]
    rows += [(_option(item), f"{item.help or ''}{_default(item.default)}") for item in options]
    if rows:
        yield "| | meaning |\n|---|---|"
    for written, meaning in rows:
        yield f"| `{written}` | {_cell(meaning)} |"


def _argument(item: Any) -> str:
    word = (item.metavar or item.name.upper()).strip("[]{}")
    word += " …" if item.nargs == -1 else ""
    return word if item.required else f"[{word}]"


def _option(item: Any) -> str:
    names = ", ".join(item.opts) + (f" / {item.secondary_opts[0]}" if item.secondary_opts else "")
    return names if item.is_flag else f"{names} {item.metavar or 'VALUE'}"


def _default(value: Any) -> str:
    if callable(value) or value is None or value is False or value in ("", (), []):
        return ""
    return f" (default: {'on' if value is True else value})"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
