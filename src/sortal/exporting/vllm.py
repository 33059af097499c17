"""``vllm``: the transformers folder of `hf` with the command that serves it and a request.

vLLM (0.10 and later) turns ``…ForSequenceClassification`` into a pooling model: the last token's state, a float32 ``score`` and, by
``problem_type``, a softmax or sigmoids. It does not run where there is no GPU, so the check loads the folder with transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from sortal.exporting import language
from sortal.exporting.formats import Floats
from sortal.exporting.hf import HfFormat, refuse_int8
from sortal.exporting.subject import Subject
from sortal.training.atomic import write_json
from sortal.training.progress import ProgressView


class VllmFormat:
    """Merged weights in safetensors, config, tokenizer and a request."""

    runtime: ClassVar[str] = "transformers (vLLM was not run)"

    def __init__(self) -> None:
        self._hf = HfFormat()

    def check(self, subject: Subject) -> None:
        """Refuse what `hf` refuses."""
        refuse_int8(subject, "vllm")
        self._hf.check(subject)

    def size(self, subject: Subject, parameters: int) -> int:
        """The weights."""
        return self._hf.size(subject, parameters)

    def write(self, subject: Subject, folder: Path) -> None:
        """The files of `hf` and a request."""
        self._hf.write(subject, folder)
        write_json(folder / language.REQUEST, _request(subject))

    def probabilities(self, subject: Subject, folder: Path, texts: list[str], view: ProgressView) -> Floats:
        """In transformers, as `hf`."""
        return self._hf.probabilities(subject, folder, texts, view)

    def notes(self, subject: Subject) -> str:
        """The command, a request, and what was not tested."""
        path = "/v1/completions" if subject.method == "instruct" else "/classify"
        lines = [
            f"```sh\n{serve_command(subject)}\n"
            f"curl http://127.0.0.1:8000{path} -H 'Content-Type: application/json' -d @FOLDER/{language.REQUEST}\n```\n",
            "The folder was loaded and compared in transformers; vLLM itself was not run. Options are those of vLLM 0.12: before 0.10, "
            "`--runner pooling` is `--task classify`; before 0.12, `structured_outputs: {choice: […]}` is `guided_choice: […]`.\n",
        ]
        if subject.method == "instruct":
            lines.append(language.cautions(subject, "vLLM"))
        else:
            activation = "sigmoids" if subject.space.task == "multi" else "a softmax"
            lines.append(
                f"`problem_type` in `config.json` makes vLLM give {activation}; the temperature is in `score`, so `probs` are Sortal's "
                "probabilities, in the order of `id2label`. A weight stored in fp32 and served with `--dtype float16` is rounded when it is loaded.\n"
            )
        return "\n".join(lines)

    def facts(self, subject: Subject) -> dict[str, Any]:
        """The command beside what `hf` says."""
        return {**self._hf.facts(subject), "serve": serve_command(subject), "vllm_was_run": False}


def serve_command(subject: Subject) -> str:
    """The command line that serves the folder."""
    if subject.method == "instruct":
        return f"vllm serve FOLDER --served-model-name {language.SERVED} --dtype {subject.dtype}"
    return f"vllm serve FOLDER --served-model-name {language.SERVED} --runner pooling --dtype {subject.dtype} --max-model-len {subject.max_length}"


def _request(subject: Subject) -> dict[str, Any]:
    if subject.method == "instruct":
        return language.vllm_request(subject)
    return {
        "model": language.SERVED,
        "input": [language.EXAMPLE, "Another one."],
        "truncate_prompt_tokens": subject.max_length,
    }
