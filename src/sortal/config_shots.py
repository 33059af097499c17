"""The settings of a run about the examples in a prompt."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sortal.config_sections import Section


class ShotsConfig(Section):
    """Method instruct: training rows that the prompt shows as examples."""

    shots: int = Field(
        0,
        ge=0,
        description="training rows shown in the prompt as examples: so many of each label, or with shot_choice nearest so many in all; the prompt grows with them",
    )
    shot_choice: Literal["fixed", "nearest"] = Field(
        "fixed",
        description="fixed: the same random rows of each label before all texts, computed once, and not trained on; nearest: before each text the rows most like it (TF-IDF), most similar last, which every text pays for with the tokens it reads and which the model folder keeps",
    )


def wrong_shots(config: Any) -> str:
    """What is wrong with the examples, or nothing; ``config``: all settings of the run."""
    if config.shot_choice == "fixed":
        return ""
    if config.shots == 0:
        return "shot_choice 'nearest' has no effect without shots: say how many"
    if config.windows > 1:
        return "shot_choice 'nearest' is for texts of one window: leave out windows"
    if config.prior_correction:
        return "prior_correction has no meaning with shot_choice 'nearest': no training row is near an empty text"
    return ""
