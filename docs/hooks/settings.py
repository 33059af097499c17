"""The reference of the settings, from the model that checks them (`sortal.config.RunConfig`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from sortal.config import RunConfig, applies
from sortal.config_sections import BASELINES, FOR_DECODERS, LoraConfig, Section

PAGE, MARK = "reference/settings.md", "<!-- settings -->"
METHODS: tuple[str, ...] = get_args(RunConfig.model_fields["method"].annotation)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the tables where the page has its mark."""
    if page.file.src_uri != PAGE:
        return markdown
    return markdown.replace(MARK, "\n".join(tables()))


def tables() -> Iterator[str]:
    """One table per section, in the order of the settings."""
    own = [name for name in RunConfig.model_fields if not any(name in s.model_fields for s in sections())]
    yield from _table("The run", own)
    for section in sections():
        yield from _table(str(section.__doc__).strip().split("\n")[0].rstrip("."), list(section.model_fields))


def sections() -> list[type[Section]]:
    """The parts that a run's settings are made of."""
    return [base for base in RunConfig.__bases__ if issubclass(base, Section)]


def _table(title: str, names: list[str]) -> Iterator[str]:
    yield f"\n## {title}\n\n| setting | values | default | meaning |\n|---|---|---|---|"
    for name in names:
        meaning = _cell(RunConfig.model_fields[name].description or "")
        cells = (
            f'<span id="{name}">`{name}`</span>',
            _cell(values(_schema()["properties"][name])),
            defaults(name),
        )
        yield f"| {' | '.join(cells)} | {_for(name)}{meaning} |"


@cache
def _schema() -> dict[str, Any]:
    return RunConfig.model_json_schema()


def values(schema: dict[str, Any]) -> str:
    """What a setting may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(values(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return f"{'whole number' if kind == 'integer' else 'number'}{_limits(schema)}"
    if kind == "object":
        key = schema.get("propertyNames", {}).get("description", "label")
        return f"{key}: {values(schema['additionalProperties'])}"
    return {"array": "list of texts", "boolean": "`true`, `false`", "string": "text"}[str(kind)]


def _limits(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    given = [f"{sign} {schema[key]:,}" for key, sign in signs.items() if key in schema]
    return f" {', '.join(given)}" if given else ""


def methods(name: str) -> list[str]:
    """The methods that have a setting."""
    tuned = ("model", *(field for field in LoraConfig.model_fields))
    if not any(name in section.model_fields for section in sections()):
        return list(METHODS)
    return [
        method
        for method in METHODS
        if applies(name, method) or (method == "encoder" and name in tuned and name not in FOR_DECODERS)
    ]


def _for(name: str) -> str:
    found = methods(name)
    if len(found) == len(METHODS):
        return ""
    if found == [method for method in METHODS if method not in BASELINES]:
        return f"*Not {', '.join(sorted(BASELINES))}.* "
    return f"*{', '.join(found)}.* "


def defaults(name: str) -> str:
    """The default of a setting, and those of methods with another one."""
    if name == "method":
        return _written(RunConfig.model_fields[name].default)
    found = {method: _written(getattr(_defaults(method), name)) for method in methods(name)}
    usual = Counter(found.values()).most_common(1)[0][0]
    others = [f"{method}: {value}" for method, value in found.items() if value != usual]
    return "; ".join([usual, *others])


@cache
def _defaults(method: str) -> RunConfig:
    # An ensemble cannot be without members; those that it is given here are no default.
    members = {"members": ("a", "b")} if applies("members", method) else {}
    return RunConfig.model_validate({"method": method, **members}).model_copy(update={"members": ()})


def _written(value: Any) -> str:
    if value is None or value in ((), ""):
        return "–"
    if isinstance(value, float) and value < 1e-3:
        return f"`{value:.0e}`".replace("e-0", "e-") if value else "`0.0`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
