"""Every command in README and docs is one: its verb, options and settings exist, and may be combined."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import typer

import sortal
from sortal.cli import train as train_verb
from sortal.cli.main import POSITIONALS, VERBS, main, spread_lists
from sortal.comparison import cells
from sortal.comparison import compare as comparison
from sortal.config import RunConfig
from sortal.config_files import load_config

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def blocks(page, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def commands(page):
    """The words of every ``sortal …`` line, alone or behind a pipe or a variable."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|\|\s*|^[A-Z_]+=.*\s)sortal (.*)$", line.strip())
            if found:
                yield shlex.split(found[1], comments=True)


EVERY = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)}"[:90])
    for page in PAGES
    for words in commands(page)
]


@pytest.mark.parametrize("words", EVERY)
def test_a_command_of_the_docs_is_accepted(words, monkeypatch):
    if words[0] == "train":
        settings = trained(words, monkeypatch)
    elif words[0] == "compare":
        settings = compared(words, monkeypatch)
    elif words[0].startswith("-"):
        assert words in (["--version"], ["--help"])
        return
    else:
        parse(words)
        return
    assert all(isinstance(item, RunConfig) for item in settings)
    assert settings


def trained(words, monkeypatch):
    """The settings of a run that is not started."""
    found = []
    monkeypatch.setattr(
        train_verb, "train", lambda given, file=None, **_: found.append(load_config(file, given))
    )
    assert main(words) == 0
    return found


def compared(words, monkeypatch):
    """The settings of each method of a comparison that is not started."""
    planned = []

    def plan(data, *, methods, seeds, out, metric, jobs, say, **settings):
        planned.extend(cells.plan({**settings, "data": data}, list(methods), seeds, Path(out)))
        raise KeyboardInterrupt  # far enough

    monkeypatch.setattr(comparison, "compare", plan)
    assert main(words) == 130
    return [cell.config for cell in planned]


def parse(words):
    """The words of any other verb, as its own parser takes them."""
    module, _, attribute = VERBS[words[0]][0].partition(":")
    target = getattr(import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False)
        target.command()(function)
    command, given = typer.main.get_command(target), spread_lists(words, POSITIONALS.get(words[0], 1))[1:]
    if hasattr(command, "commands") and given:
        command, given = command.commands[given[0]], given[1:]
    command.make_context(f"sortal {words[0]}", given)


PYTHON = [
    pytest.param(code, id=f"{page.stem} {number}")
    for page in PAGES
    for number, code in enumerate(blocks(page, "python"))
]


@pytest.mark.parametrize("code", PYTHON)
def test_python_in_the_docs_is_python_and_uses_names_that_exist(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sortal":
            assert node.attr in sortal.__all__
