"""``adapter``: peft's adapter alone, for whoever has the base model already."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file

from sortal.backbone import loading
from sortal.backbone.folders import read_json
from sortal.backbone.quiet import quiet
from sortal.backbone.sources import ModelSource
from sortal.errors import ModelError
from sortal.exporting import fresh, language
from sortal.exporting.formats import Floats
from sortal.exporting.hf import bytes_of, copy_tokenizer, refuse_int8
from sortal.exporting.subject import Subject, refuse_method
from sortal.methods.adapter_folder import check_base
from sortal.methods.head import PROBLEM_TYPE
from sortal.training.atomic import write_json
from sortal.training.progress import ProgressView

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class AdapterFormat:
    """LoRA and, for a head, ``score``, in peft's files; the base model is named, not copied."""

    runtime: ClassVar[str] = "peft"

    def check(self, subject: Subject) -> None:
        """Refuse methods without an adapter, poolings and 4-bit runs, whose answers peft on the base would not give."""
        refuse_int8(subject, "adapter")
        refuse_method(
            subject, "adapter", ("head", "instruct"), "it has no adapter; export with --to hf or --to onnx"
        )
        if subject.meta["quantization"] != "none":
            raise ModelError(
                f"{subject.folder} was tuned on a base in 4 bits, and on the 16-bit base its adapter gives other answers",
                "export with --to hf, whose weights hold the values it was tuned on",
            )
        if subject.meta.get("pooling", "last") != "last":
            raise ModelError(
                f"{subject.folder} reads the mean of its tokens' states, and transformers' classifiers have no place for that",
                "export with --to onnx, or train with pooling last",
            )

    def size(self, subject: Subject, parameters: int) -> int:
        """The adapter's file, at most in fp32."""
        return (subject.folder / WEIGHTS).stat().st_size * bytes_of(subject.dtype) // 2

    def write(self, subject: Subject, folder: Path) -> None:
        """The adapter with the temperature in ``score``, config and tokenizer files."""
        dtype = getattr(torch, subject.dtype)
        tensors = {
            name: (tensor / subject.decision.temperature if name.endswith(".score.weight") else tensor).to(
                dtype
            )
            for name, tensor in load_file(subject.folder / WEIGHTS).items()
        }
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        values = dict(read_json(subject.folder / CONFIG))
        values["base_model_name_or_path"] = subject.meta["base_model"]["spec"]
        write_json(folder / CONFIG, values)
        settings = loading.load_config(str(subject.folder))
        if subject.method == "head":
            settings.problem_type = PROBLEM_TYPE[subject.space.task]
        settings.save_pretrained(folder)
        copy_tokenizer(subject.folder, folder)

    def probabilities(self, subject: Subject, folder: Path, texts: list[str], view: ProgressView) -> Floats:
        """By the lines in `notes`, in a process of its own."""
        base = _source(subject).path
        if subject.method == "instruct":
            return language.probabilities(subject, lambda: _load(base, folder), texts, view)
        asked = {"kind": "adapter", "folder": str(folder), "base": base}
        return fresh.probabilities(asked, subject.space, texts, view)

    def notes(self, subject: Subject) -> str:
        """The lines that put it onto its base."""
        auto = "CausalLM" if subject.method == "instruct" else "SequenceClassification"
        base = subject.meta["base_model"]
        config = "" if subject.method == "instruct" else ', config=AutoConfig.from_pretrained("FOLDER")'
        names = "" if subject.method == "instruct" else "AutoConfig, "
        return (
            f"`base` is the folder or hub id of {base['spec']} at {base['revision']}; `sortal models show {base['spec']}` prints "
            "the path of a model that Sortal fetched.\n\n```python\nfrom peft import PeftModel\n"
            f"from transformers import {names}AutoModelFor{auto}, AutoTokenizer\n\n"
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
            f'model = AutoModelFor{auto}.from_pretrained(base{config}, dtype="float32")\n'
            'model = PeftModel.from_pretrained(model, "FOLDER").eval()\n```\n'
        )

    def facts(self, subject: Subject) -> dict[str, Any]:
        """The answers of an ``instruct`` model; the base model is named for every export."""
        return language.answer_facts(subject) if subject.method == "instruct" else {}


def _source(subject: Subject) -> ModelSource:
    return check_base(subject.folder, subject.meta)


def _load(base: str, folder: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, folder).merge_and_unload()
