"""A text given as an object with one field per text column, joined as the columns of training were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortal.data.problems import listed
from sortal.data.records import Batch
from sortal.data.schema import Schema
from sortal.data.textcells import TextJoiner
from sortal.errors import DataError


def text_of(fields: Mapping[str, Any], schema: Schema) -> str:
    """One text of ``fields``; a field that is missing or null is empty.

    Raises:
        DataError: a field is no text column, or holds no text.
    """
    if any(name not in schema.text for name in fields):
        raise DataError(
            f"an input has a field that is no text column of this model: those are {listed(schema.text)}",
            "leave other fields out",
        )
    for name, value in fields.items():
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"field {name!r} of an input is a {type(value).__name__}, not a text",
                "give a string, or null for a missing one",
            )
    row = Batch({name: [fields.get(name)] for name in schema.text}, 1, first_row=1)
    return TextJoiner("an input", schema.text, schema.text_template).join(row)[0]
