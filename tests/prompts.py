"""Prompts of method instruct under tokenizers of several kinds, without a model."""

from __future__ import annotations

from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from model_files import byte_tokenizer
from sortal.prompting.prompt import Prompt
from sortal.prompting.template import make_prompt_text
from sortal.prompting.verbalizer import Verbalizer

CHAT = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
END, START = 0, 1
LINES = "Classify the text into one of these labels:\n{labels}\n\n{examples}Text: {text}\nLabel:"


def bytes_with_bos():
    """Byte-level; "<|start|>" comes before every text."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", START)]
    )
    return tokenizer


def word_tokenizer():
    """Byte-level with a few merges: words have one token and swallow the space before them; so have two line ends, if nothing follows."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "g"), ("g", "o"), ("Ġg", "o"), ("o", "d"), ("Ġgo", "od"), ("a", "b"), ("Ġ", "ab")]
    merges += [("Ċ", "Ċ"), ("go", "od"), ("Ġ", "y"), ("Ġy", "e"), ("Ġye", "s"), ("Ġ", "n"), ("Ġn", "o")]
    vocabulary = ["<|end|>", "<|start|>", *letters, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocabulary)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", bos_token="<|start|>")


def piece_tokenizer():
    """In the way of SentencePiece: a space is put before whatever is encoded on its own, and BOS before that."""
    letters = ["▁", "\n", *(chr(i) for i in range(33, 127))]
    merges = [("▁", "g"), ("▁g", "o"), ("o", "d"), ("▁go", "od"), ("a", "b")]
    vocabulary = ["<|end|>", "<|start|>", *letters, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocabulary)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = TemplateProcessing(single="<|start|> $A", special_tokens=[("<|start|>", START)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", bos_token="<|start|>")


TOKENIZERS = {
    "bytes": byte_tokenizer(),
    "bytes+bos": bytes_with_bos(),
    "words": word_tokenizer(),
    "pieces": piece_tokenizer(),
}


def chat_tokenizer(template=CHAT, bos=False):
    """Byte-level with a chat format, and with a first token of its own where ``bos`` says so."""
    tokenizer = bytes_with_bos() if bos else byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


label_names = st.lists(
    st.text(st.sampled_from("god ab-/"), min_size=1, max_size=8).map(str.strip).filter(bool),
    min_size=1,
    max_size=5,
    unique=True,
).map(tuple)


def make_prompt(
    source=LINES,
    labels=("good", "bad"),
    tokenizer=None,
    form="label",
    listed=None,
    format_="auto",
    **more,
):
    """A prompt from the source of a template; ``more`` goes to `Prompt`."""
    tokenizer = byte_tokenizer() if tokenizer is None else tokenizer
    text = make_prompt_text(source, form, tokenizer, format_)
    return Prompt(tokenizer, text, form, Verbalizer(tuple(labels), tuple(listed or labels)), **more)


def text_ids(prompt, text):
    """What is read for one text after the shared part."""
    return prompt.encode([text])[0].tolist()
