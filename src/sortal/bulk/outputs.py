"""Which files a prediction writes: one for all inputs, or one for each in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, cast

from sortal.bulk.inputs import Input
from sortal.bulk.storage import is_url, join, storage
from sortal.data.files import kind_of
from sortal.errors import ConfigError

Form = Literal["jsonl", "csv", "parquet"]
FORMS: tuple[Form, ...] = ("jsonl", "csv", "parquet")
_FORM_OF_KIND: dict[str | None, Form] = {"delimited": "csv", "parquet": "parquet", "arrow": "parquet"}


@dataclass(frozen=True)
class Output:
    """A file to write: the rows of ``inputs`` (positions in their list), one after the other."""

    path: str
    form: Form
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """All files to write, and the hidden folder beside them for what is finished so far."""

    outputs: tuple[Output, ...]
    work: str
    together: bool
    """Whether rows of several inputs meet in one file."""


def check_out(out: str, form: str | None) -> None:
    """Refuse an ``--out`` that cannot work, before anything is read.

    Raises:
        ConfigError: an unknown ending, two formats, or a parent folder that does not exist.
    """
    if form is not None and form not in FORMS:
        raise ConfigError(f"--format {form}: unknown format", f"use one of {', '.join(FORMS)}")
    ending = _ending(out)
    if is_folder(out):
        if ending in FORMS and not out.endswith("/"):
            raise ConfigError(f"--out {out} is a folder", "give the name of a file")
    elif ending not in FORMS and form is None:
        raise ConfigError(
            f"--out {out}: unknown format {Path(out).suffix!r}",
            f"use one of {', '.join('.' + each for each in FORMS)}, a folder, or say --format",
        )
    elif ending in FORMS and form not in (None, ending):
        raise ConfigError(f"--out {out} contradicts --format {form}", "leave out --format")
    parent = Path(out).absolute().parent
    if not is_url(out) and not parent.is_dir():
        raise ConfigError(f"--out {out}: the folder {parent} does not exist", "make it, or choose another")


def target(inputs: Sequence[Input], out: str, form: str | None) -> Target:
    """The files to write; ``out`` and ``form`` are as `check_out` accepts them.

    ``out`` is a folder when it exists as one, has no ending, or ends in a slash. A file's format is that of its ending; in a folder
    ``form``, or by default that of the input (JSON lines for what is neither CSV nor Parquet).

    Raises:
        ConfigError: two inputs would be written to one file, or an input would be overwritten.
    """
    if is_folder(out):
        outputs = _one_for_each(inputs, out, cast(Form | None, form))
        made = Target(outputs, join(out, ".sortal-predict"), False)
    else:
        ending = _ending(out)
        single = Output(out, cast(Form, ending if ending in FORMS else form), tuple(range(len(inputs))))
        folder, _, name = out.rpartition("/")
        made = Target(
            (single,), f"{folder}/.{name}.sortal-predict" if folder else f".{name}.sortal-predict", True
        )
    _refuse_overwriting(inputs, made, out)
    return made


def _one_for_each(inputs: Sequence[Input], out: str, form: Form | None) -> tuple[Output, ...]:
    outputs: dict[str, Output] = {}
    for position, each in enumerate(inputs):
        kind = kind_of(Path(each.name))
        its = form or _FORM_OF_KIND.get(kind, "jsonl")
        name = PurePosixPath(each.name.removesuffix(".gz"))
        path = join(out, str(name.with_suffix(f".{its}") if kind else f"{name}.{its}"))
        if path in outputs:
            other = inputs[outputs[path].inputs[0]].source
            raise ConfigError(
                f"{other} and {each.source} would both be written to {path}",
                "give the folder that holds both, or one file as --out",
            )
        outputs[path] = Output(path, its, (position,))
    return tuple(outputs.values())


def _refuse_overwriting(inputs: Sequence[Input], made: Target, out: str) -> None:
    sources = {_real(each.source) for each in inputs}
    for output in made.outputs:
        if _real(output.path) in sources:
            raise ConfigError(
                f"--out {out}: {output.path} is an input and would be overwritten", "choose another --out"
            )

    for folder in {each.folder for each in inputs if each.folder}:
        if f"{_real(out)}/".startswith(f"{_real(folder)}/"):
            raise ConfigError(
                f"--out {out} lies in {folder}, whose files are the inputs", "choose a place outside it"
            )


def _real(name: str) -> str:
    return name.rstrip("/") if is_url(name) else str(Path(name).resolve())


def _ending(out: str) -> str:
    return Path(out).suffix.removeprefix(".")


def is_folder(out: str) -> bool:
    """Whether ``--out`` means a folder: it exists as one, ends in a slash, or is new and has no ending."""
    if out.endswith("/") or storage(out).is_folder(out):
        return True
    return not Path(out).suffix and not storage(out).exists(out)
