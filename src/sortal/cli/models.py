"""``sortal models``: which models there are, fetching one, and what is known about one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sortal.backbone.sources import ModelSource

app = typer.Typer(
    help="List, fetch and show pretrained models.", invoke_without_command=True, no_args_is_help=False
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON line instead of a table.")]
Spec = Annotated[
    str, typer.Argument(help="Registry name, pypi:NAME[==VERSION], folder, GGUF file or hub id.")
]


def list_models() -> list[dict[str, Any]]:
    """The registry's models, one row each, with ``cached`` saying whether no network is needed."""
    from sortal.backbone.registry import REGISTRY

    return [_entry_row(entry) for entry in REGISTRY.values()]


def pull(spec: str, *, accept_terms: bool = False, trust_remote_code: bool = False) -> ModelSource:
    """Fetch and convert a model into the cache; a cached copy is checked byte by byte and rebuilt if damaged.

    Raises:
        ModelError, ResourceError: see `sortal.backbone.sources.resolve`.
    """
    from sortal.backbone.sources import resolve

    return resolve(spec, consent=accept_terms, trust_remote_code=trust_remote_code, check=True)


def show(spec: str) -> dict[str, Any]:
    """What is known about a model without fetching it.

    Returns:
        name, kind, licence, parameters, layers, hidden_size, vocab_size, bytes, dtype, path (None when it is not on
        this machine), note and source; a number that is not known yet is None.

    Raises:
        ModelError: unknown or refused model.
    """
    from sortal.backbone import carried, hub
    from sortal.backbone.pypi import parse_requirement
    from sortal.backbone.registry import REGISTRY, entry_for_package
    from sortal.backbone.sources import resolve, unknown

    entry = REGISTRY.get(spec)
    if spec.startswith("pypi:"):
        package = parse_requirement(spec.removeprefix("pypi:"))
        known = entry_for_package(package)
        if known and package.version in (None, known.packages[0].version):
            entry = known
        elif cached := carried.cached_package(package):
            return _folder_row(spec, cached)
        else:
            return _blank_row(spec, f"package {package.requirement}")
    if entry:
        return _entry_row(entry)
    path = Path(spec).expanduser()
    if path.is_dir() or path.is_file():
        return _folder_row(spec, Path(resolve(spec).path))
    if parts := hub.parse(spec):
        snapshot = hub.cached(*parts)
        return _folder_row(spec, snapshot.path) if snapshot else _blank_row(spec, f"hub model {parts[0]}")
    raise unknown(spec)


def _entry_row(entry: Any) -> dict[str, Any]:
    from sortal.backbone import carried
    from sortal.backbone.environment import folder_bytes
    from sortal.backbone.registry import DEFAULT

    folder = carried.cached_entry(entry)
    packages = ", ".join(package.requirement for package in entry.packages)
    note = f"de-quantised from GGUF {entry.quantisation}" if entry.quantisation else None
    return {
        "name": entry.name,
        "default": entry.name == DEFAULT,
        "kind": entry.kind,
        "description": entry.description,
        "licence": entry.licence,
        "terms": entry.terms.url if entry.terms else None,
        "parameters": entry.parameters,
        "layers": entry.layers,
        "hidden_size": entry.hidden_size,
        "vocab_size": entry.vocab_size,
        "download_bytes": entry.download_bytes,
        "bytes": folder_bytes(folder) if folder else entry.model_bytes,
        "cached": folder is not None,
        "path": str(folder) if folder else None,
        "source": f"PyPI: {packages}",
        "note": note,
    }


def _folder_row(spec: str, folder: Path) -> dict[str, Any]:
    from sortal.backbone.cache import manifest_of
    from sortal.backbone.folders import check_folder, folder_facts
    from sortal.backbone.sources import kind_of

    manifest, facts = manifest_of(folder) or {}, folder_facts(folder)
    carriers = [f"{p['name']}=={p['version']}" for p in manifest.get("packages", [])]
    return {
        "name": spec,
        "kind": kind_of(check_folder(folder)),
        "description": facts.model_type,
        "licence": manifest.get("licence"),
        "parameters": facts.parameters,
        "layers": facts.layers,
        "hidden_size": facts.hidden_size,
        "vocab_size": facts.vocab_size,
        "bytes": facts.bytes,
        "dtype": facts.dtype,
        "cached": True,
        "path": str(folder),
        "source": f"PyPI: {', '.join(carriers)}" if carriers else manifest.get("gguf") or str(folder),
        "note": manifest.get("note"),
    }


def _blank_row(spec: str, source: str) -> dict[str, Any]:
    blank = dict.fromkeys(
        ("kind", "licence", "parameters", "layers", "hidden_size", "vocab_size", "bytes", "path")
    )
    note = f"not on this machine; fetch it with: sortal models pull {spec}"
    return {"name": spec, **blank, "cached": False, "source": source, "note": note}


def size(count: int | None) -> str:
    """Bytes as people say them: ``273 MB``."""
    if count is None:
        return "?"
    return (
        f"{count / 1e9:.1f} GB"
        if count >= 1e9
        else f"{count / 1e6:.0f} MB"
        if count >= 1e6
        else f"{count} bytes"
    )


def _millions(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e6:.1f} M"


def _print_list(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("model", "kind", "weights", "layers", "download", "licence", "cached"):
        table.add_column(heading, no_wrap=heading == "model")
    for row in rows:
        name = f"{row['name']} *" if row["default"] else row["name"]
        numbers = (_millions(row["parameters"]), str(row["layers"]), size(row["download_bytes"]))
        table.add_row(name, row["kind"], *numbers, row["licence"], "yes" if row["cached"] else "no")
    Console().print(table)
    Console().print(
        "* default. Also: a model folder, a GGUF file, pypi:NAME or a hub id org/name[@revision].",
        highlight=False,
    )


def _print_row(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(row, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = {**row, "bytes": size(row.get("bytes")), "parameters": _millions(row.get("parameters"))}
    if "download_bytes" in row:
        shown["download_bytes"] = size(row["download_bytes"])
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a path is never cut
    for key, value in shown.items():
        if value is not None and key != "default":
            shown_value = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            heading = {"download_bytes": "download", "bytes": "size"}.get(key, key.replace("_", " "))
            table.add_row(heading, escape(shown_value))
    Console().print(table)


@app.callback()
def _default(context: typer.Context, as_json: Json = False) -> None:
    """List the known models when no verb is given."""
    if context.invoked_subcommand is None:
        _print_list(list_models(), as_json)


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the models Sortal knows by name."""
    _print_list(list_models(), as_json)


@app.command("pull")
def pull_command(
    spec: Spec,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the model's own terms of use.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fetch a model into the cache, or check the copy that is there."""
    source = pull(spec, accept_terms=accept_terms)
    _print_row({**show(spec), "path": source.path, "revision": source.revision}, as_json)


@app.command("show")
def show_command(spec: Spec, as_json: Json = False) -> None:
    """Show size, licence, shape and origin of a model."""
    _print_row(show(spec), as_json)
