"""Models and prompts for the losses of method instruct."""

from __future__ import annotations

import pytest
import torch

from instruct_objectives import NAMES, stirred_model
from sortal.backbone import loading
from sortal.backbone.lora import trainable
from sortal.prompting.prompt import Prompt
from sortal.prompting.template import make_prompt_text
from sortal.prompting.verbalizer import Verbalizer


@pytest.fixture(scope="session")
def models(tiny_models):
    """A stirred model of every family, for all tests: none changes weights."""
    made = {}

    def get(family="llama"):
        if family not in made:
            made[family] = stirred_model(tiny_models[family])
        return made[family]

    return get


@pytest.fixture(scope="session")
def plain(tiny_models):
    """transformers and peft alone, with the weights of ``models(family)``."""

    def get(family, model):
        bare = stirred_model(tiny_models[family], fused=False)
        with torch.no_grad():
            for name, parameter in trainable(model).items():
                trainable(bare)[name].copy_(parameter)
        bare.inner.set_attn_implementation("eager")
        return bare.model

    return get


@pytest.fixture(scope="session")
def prompts(tiny_models):
    """``prompts(form, names)``: a prompt that asks for these labels."""
    tokenizer = loading.load_tokenizer(str(tiny_models["llama"]))  # all families have the same one

    def make(form, names=NAMES, **more):
        text = make_prompt_text("classify", form, tokenizer)
        return Prompt(tokenizer, text, form, Verbalizer(names, names), **more)

    return make
