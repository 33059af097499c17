"""Every command in README and docs is one: its verb, options and settings exist, and may be combined."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

import sortal
from sortal.cli import train as train_verb
from sortal.cli.main import POSITIONALS, VERBS, main, spread_lists
from sortal.comparison import compare as comparison
from sortal.config import applies
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
    reached = []

    def checked(overrides, config_file=None, **_):
        reached.append(load_config(config_file, overrides))

    def compared(data, **settings):
        chosen = {name: settings.pop(name) for name in ("methods", "seeds", "out", "metric", "jobs", "say")}
        settings = {name.rpartition(".")[2]: value for name, value in settings.items()}
        for method in (name.removesuffix("+tfidf") for name in chosen["methods"]):
            given = {name: value for name, value in settings.items() if applies(name, method)}
            reached.append(load_config(None, {**given, "data": data, "method": method}))
        raise KeyboardInterrupt  # far enough

    if words[0].startswith("-"):
        return
    assert words[0] in VERBS
    if words[0] == "train":
        monkeypatch.setattr(train_verb, "train", checked)
        assert main(words) == 0
    elif words[0] == "compare":
        monkeypatch.setattr(comparison, "compare", compared)
        assert main(words) == 130
    else:
        from importlib import import_module

        import typer

        module, _, attribute = VERBS[words[0]][0].partition(":")
        target = getattr(import_module(module), attribute)
        if not isinstance(target, typer.Typer):
            function, target = target, typer.Typer(add_completion=False)
            target.command()(function)
        given = spread_lists(words, POSITIONALS.get(words[0], 1))[1:]
        command = typer.main.get_command(target)
        if hasattr(command, "commands") and given:
            command, given = command.commands[given[0]], given[1:]
        command.make_context(f"sortal {words[0]}", given)
        return
    assert reached


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
