"""Short runs of method instruct on tiny models, in all three answer forms."""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from tiny_runs import HARD_TEXTS, fit, rows

FORMS = ("label", "each", "list")
# A common beginning, one the beginning of another, a space, another script; not in alphabetical order.
LABELS = ("odd", "good enough", "good", "bäd 好")
TOPICS = [
    ("parcel late", "p"),
    ("money back", "m"),
    ("late parcel money", "p|m|pm"),
    ("hello", ""),
    ("both then", "pm"),
]
NF4 = {"quantization": "nf4"}
BITSANDBYTES = {**NF4, "nf4_backend": "bitsandbytes"}


def save_chat_model(folder):
    """A random 2-layer Llama whose tokenizer has merges, a first token of its own and a chat format."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|start|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The blank line becomes one token, as in large vocabularies.
    words = "Classify the text into one of these labels good enough Text: Label: A B C D x\n\n"
    backend.train_from_iterator([words] * 40 + [text for text, _ in rows(48, LABELS)], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", bos_token="<|start|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=3,
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def instruct(data, base, out, form="label", *, said=None, **settings):
    """A short run of method instruct."""
    more = {"label_delimiter": "|", "answer": form} if form != "label" else {}
    given = {"method": "instruct", "max_length": None, "temperature_scaling": False, **more, **settings}
    return fit(data, base, out, said=said, **given)


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def every_node(scorer, **changes):
    """The scorer with every answer computed to its end."""
    return replace(scorer, scoring=replace(scorer.scoring, tolerance=0.0, **changes))


def texts_of(form):
    known = [text for text, _ in (rows(12, LABELS) if form == "label" else TOPICS)]
    return [*HARD_TEXTS, *known, "fine " * 90]
