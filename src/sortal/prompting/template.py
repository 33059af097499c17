"""The words around a text: instruction, label list, examples, answer cue — as strings, before any token exists."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sortal.errors import ConfigError, ModelError

Form = Literal["label", "list", "each"]
"""One label; several labels one after another; a yes or no for every label."""

NAMED: dict[str, dict[Form, str]] = {
    "classify": {
        "label": "Classify the text into one of these labels:\n{labels}\n\n{examples}Text: {text}\nLabel:",
        "list": "Name the labels that apply to the text, in the order of this list:\n{labels}\n\n{examples}Text: {text}\nLabels:",
        "each": "Say for every label whether it applies to the text.\n\n{examples}Text: {text}\nLabels:",
    },
    # The reference paper's own words (arXiv 2512.12677).
    "paper": {
        "label": "Classify the text into {labels} and return the answer as the exact text label.\ntext: {text}\nlabel:",
        "list": "Classify the text into {labels} and return the answer as the exact text labels.\ntext: {text}\nlabels:",
    },
}
_PLACES = ("{labels}", "{examples}", "{text}")


@dataclass(frozen=True)
class PromptText:
    """The strings of a prompt, special tokens of the chat format included; saved with the model.

    before, between, query: what stands before the label list, between it and the examples, and between those and the text.
    after: from the text's end to the answer. one_per_line: how labels are listed, else separated by commas.
    example: what one example looks like, with ``{text}`` and ``{answer}``.
    """

    source: str
    format: Literal["chat", "plain"]
    before: str
    lists_labels: bool
    one_per_line: bool
    between: str
    example: str | None
    query: str
    after: str

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PromptText:
        """The inverse of `to_json`.

        Raises:
            ModelError: missing or unknown keys.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(
                f"the saved prompt is damaged ({error})", "restore sortal.json, or train again"
            ) from None


def check_source(source: str) -> str | None:
    """What is wrong with a template a user wrote, or None."""
    if source in NAMED:
        return None
    for place in _PLACES:
        if source.count(place) > 1:
            return f"template {source!r} holds {place} more than once"
    if "{text}" not in source:
        return f"template {source!r} has no {{text}}, so the model would never see the text"
    order = [place for place in _PLACES if place in source]
    if order != sorted(order, key=source.index):
        return f"template {source!r} must name its parts in the order {', '.join(order)}: what comes before the text is computed once"
    return None


def make_prompt_text(source: str, form: Form, tokenizer: Any, format_: str = "auto") -> PromptText:
    """Split ``source`` (a name or a template with ``{text}``) at its places, inside the tokenizer's chat format or plain.

    In the chat format the last line after the text, the answer cue, is left out: the assistant's turn is the cue.

    Raises:
        ConfigError: a template that cannot work.
        ModelError: ``chat`` for a model without a chat template, or one that drops or changes the message.
    """
    if wrong := check_source(source):
        raise ConfigError(wrong, "write for example 'Text: {text}\\nLabel:'")
    named = NAMED.get(source)
    if named is not None and form not in named:
        raise ConfigError(
            f"template {source!r} has no wording for answer {form!r}", f"use answer {' or '.join(named)}"
        )
    words = source if named is None else named[form]
    chat = getattr(tokenizer, "chat_template", None)
    if format_ == "chat" and not chat:
        raise ModelError(
            "prompt_format chat needs a tokenizer with a chat template, and this base model has none",
            "use prompt_format plain, or an instruct model",
        )
    before, after = words.split("{text}")
    example = None
    if "{examples}" in before:
        before, query = before.split("{examples}")
        space = "" if after[-1:].isspace() else " "
        example = f"{query}{{text}}{after}{space}{{answer}}\n\n"
    else:
        query = ""
    lists, one_per_line = "{labels}" in before, False
    between = ""
    if lists:
        start, between = before.split("{labels}")
        one_per_line = (not start or start.endswith("\n")) and (not between or between.startswith("\n"))
        before = start
    if example is None and lists:
        between, query = "", between
    elif example is None:
        before, query = "", before
    use_chat = bool(chat) and format_ != "plain"
    if use_chat:
        body, _, cue = after.rpartition("\n")
        opening, closing = _turns(tokenizer)
        before, after = opening + before, (body if cue else after) + closing
    return PromptText(
        source,
        "chat" if use_chat else "plain",
        before,
        lists,
        one_per_line,
        between,
        example,
        query,
        after,
    )


def _turns(tokenizer: Any) -> tuple[str, str]:
    """What the chat template writes before a user's message and from its end to the assistant's answer."""
    marker = "\ue000message\ue000"
    try:
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": marker}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # whatever a foreign Jinja template raises
        raise ModelError(
            f"the model's chat template cannot be rendered ({type(error).__name__}: {error})",
            "use prompt_format plain",
        ) from None
    if rendered.count(marker) != 1:
        raise ModelError(
            "the model's chat template does not write the user's message exactly once",
            "use prompt_format plain",
        )
    opening, closing = rendered.split(marker)
    return opening, closing
