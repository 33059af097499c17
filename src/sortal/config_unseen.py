"""What becomes of labels that no training row has."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from sortal.config_sections import Section
from sortal.errors import ConfigError

UnseenLabels = Literal["error", "drop"]


class UnseenLabelsConfig(Section):
    """Labels of dev and test rows that cannot be learned."""

    unseen_labels: UnseenLabels = Field(
        "error",
        description="labels of dev and test files that no training row has: error refuses them; drop takes them out, and leaves out the rows that had no other, which is counted, since the figures are then those of an easier test",
    )


def check_unseen_labels(value: str) -> None:
    """Refuse a policy that does not exist.

    Raises:
        ConfigError: naming those that do.
    """
    if value not in (known := get_args(UnseenLabels)):
        raise ConfigError(f"unseen_labels is {value!r}", f"use {' or '.join(known)}")
