"""``sortal config``: the settings of a run as a schema, as they would be used, and checked."""

from __future__ import annotations

import json as jsonlib
import math
from typing import Annotated, Any

import typer
import yaml

from sortal.cli import output
from sortal.config import RunConfig
from sortal.config_files import load_config, parse_assignments

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="The settings of a run: schema, show, validate."
)
File = Annotated[str | None, typer.Argument(metavar="[F.yaml]", help="settings file")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="key=value", help="a setting on top of the file")
]


@app.command()
def schema() -> None:
    """The JSON schema of all settings."""
    print(jsonlib.dumps(RunConfig.model_json_schema(), indent=2, ensure_ascii=False))


@app.command()
def show(file: File = None, set_: Set = None) -> None:
    """Every setting with its value and meaning, as YAML that `sortal train --config` reads."""
    config = load_config(file, parse_assignments(set_ or []))
    for name, field in RunConfig.model_fields.items():
        value = getattr(config, name)
        line = f"{name}: {_flow(list(value) if isinstance(value, tuple) else value)}"
        print(f"{line}  # {field.description}" if field.description else line)


@app.command()
def validate(
    file: Annotated[str, typer.Argument(metavar="F.yaml", help="settings file")], set_: Set = None
) -> None:
    """Check a settings file without running anything."""
    load_config(file, parse_assignments(set_ or []))
    output.say(f"{file} is valid")


def _flow(value: Any) -> str:
    """``value`` as YAML on one line."""
    dumped = str(yaml.safe_dump([value], allow_unicode=True, default_flow_style=True, width=math.inf)).strip()
    # A text of several lines is folded whatever the width; JSON is YAML, too.
    return jsonlib.dumps(value) if "\n" in dumped else dumped[1:-1]
