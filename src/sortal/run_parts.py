"""The rows of a finished run, read again from the data files that its settings name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sortal.config import build_config
from sortal.config_hierarchy import DATA_FIELDS
from sortal.errors import DataError, SortalError
from sortal.parts import Parts, read_parts
from sortal.training.runfolder import RunFolder


def read_run_parts(record: Mapping[str, Any]) -> Parts:
    """The parts that the content of run.json describes, relative to the working directory as they were for the run.

    The files may have changed since: `changed` tells which parts have.

    Raises:
        DataError: a file is gone or cannot be read. SortalError: the settings cannot be used by this version.
    """
    # Only what decides the rows: other settings may have other rules in this version.
    names = {*DATA_FIELDS, "seed"}
    given = {key: value for key, value in record["config"].items() if key in names}
    try:
        return read_parts(build_config(given), lambda line: None)
    except OSError as error:
        raise DataError(
            f"{error.filename or 'a file'}: {error.strerror}", "put back the data files of the run"
        ) from None


def changed(parts: Parts, record: Mapping[str, Any]) -> list[str]:
    """Names of the parts whose texts or labels are not those of the run any more."""
    now = parts.fingerprints()
    return [name for name in now if now[name] != record["data"][name]["fingerprint"]]


def parts_behind(model_dir: Path) -> tuple[Parts | None, str]:
    """The rows that a model was made with, found through the run folder around it; else None and why not."""
    folder = RunFolder(model_dir.absolute().parent)
    try:
        record = folder.read_run_json()
        parts = read_run_parts(record)
        other = [name for name in changed(parts, record) if name != "test"]
    except SortalError as error:
        return None, error.what
    except (KeyError, TypeError, json.JSONDecodeError):
        return None, f"{folder.run_json} is of another version"
    if other:
        return None, f"the {' and '.join(other)} rows have changed since the run"
    return parts, ""
