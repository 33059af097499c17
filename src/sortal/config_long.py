"""The settings for texts longer than the model reads at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from sortal.config_sections import Section
from sortal.data.sections import sections_template

# Ways of putting windows together, of methods that do not have all: one regression reads one state per text, and an answer's words
# are no state to weigh.
WINDOW_MEANS = {"probe": ("mean",), "instruct": ("mean", "max")}
Budget = Annotated[int, Field(ge=1)] | Literal["all", "rest"]


class SectionsConfig(Section):
    """Texts of several columns, each cut for itself."""

    sections: dict[Annotated[str, Field(description="column")], Budget] | None = Field(
        None,
        description="text columns with the tokens each may take: a number, all, or rest (what the others leave), e.g. {title: all, claim: 200, description: rest}; read in this order, rest filled last; each is cut as truncation says",
    )


class WindowsConfig(Section):
    """Long texts in several windows."""

    windows: int = Field(
        1,
        ge=1,
        description="read a text longer than max_length in up to so many overlapping windows of max_length tokens; each costs as much as a text of its own; 1: cut it",
    )
    stride: int = Field(
        32,
        ge=0,
        description="tokens that neighbouring windows share, as in transformers: what stands at a border is read whole in one of them",
    )
    aggregation: Literal["mean", "max", "attention"] = Field(
        "mean",
        description="how the windows of a text become one row of scores: mean or max of each label's score, or attention: a learned weight for every window's state (head, encoder)",
    )


def with_sections(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with the ``text_template`` that sections mean, so that every reader of the data joins them alike.

    Raises:
        ValueError: another template, or other text columns, are given beside sections.
    """
    sections = values.get("sections")
    if not isinstance(sections, dict) or not sections:
        return values
    template = sections_template(map(str, sections))
    if values.get("text_template") not in (None, template):
        raise ValueError("sections join the text columns themselves: leave out text_template")
    text = values.get("text") or ()
    named = [text] if isinstance(text, str) else text
    if {str(name) for name in named} - {str(name) for name in sections}:
        raise ValueError("text and sections name different columns: leave out text")
    return {**values, "text_template": template}


def wrong_windows(config: Any, given: Sequence[str]) -> str:
    """What is wrong with the settings of windows, or nothing.

    Args:
        config: all settings of the run.
        given: those of `WindowsConfig` that are not the defaults.
    """
    if config.windows == 1:
        return f"{given[0]} has no effect without windows above 1" if given else ""
    fitting = WINDOW_MEANS.get(config.method)
    if fitting and config.aggregation not in fitting:
        return f"aggregation {config.aggregation!r} is not for {config.method}: use {' or '.join(fitting)}"
    if config.max_length is not None and config.stride >= config.max_length:
        return f"stride {config.stride} is no less than max_length {config.max_length}: windows would never move on"
    return ""
