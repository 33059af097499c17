"""Rows in llama.cpp's order, and its names for ways of splitting text."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sortal.errors import ModelError
from sortal.exporting.gguf import rotated_rows
from sortal.exporting.gguf_tokenizer import splitting_name

DIGITS = pre_tokenizers.Digits(individual_digits=True)
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def tokenizer(*steps, model=None):
    backend = Tokenizer(model or models.BPE(vocab={"a": 0}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps)) if len(steps) > 1 else steps[0]
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def bytes_(**more):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": True, **more})


def test_row_i_stands_beside_row_i_plus_half():
    weight = torch.arange(2 * 6).view(12, 1).float()
    assert rotated_rows(weight, 2)[:, 0].tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ((bytes_(),), "gpt-2"),
        ((DIGITS, bytes_()), "smollm"),
        ((split(QWEN), bytes_(use_regex=False)), "qwen2"),
        ((split(QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|")), bytes_(use_regex=False)), "llama-bpe"),
    ],
)
def test_known_ways_have_llama_cpps_name(steps, name, tmp_path):
    assert splitting_name(tokenizer(*steps), tmp_path) == name


@pytest.mark.parametrize(
    "steps",
    [
        (bytes_(add_prefix_space=True),),
        (pre_tokenizers.Whitespace(),),
        (split(r"\w+"), bytes_(use_regex=False)),
        (split(QWEN), bytes_()),
    ],
)
def test_others_are_refused(steps, tmp_path):
    with pytest.raises(ModelError, match=r"does not know how llama\.cpp calls"):
        splitting_name(tokenizer(*steps), tmp_path)


def test_a_vocabulary_that_is_no_bpe_is_refused(tmp_path):
    words = tokenizer(bytes_(), model=models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ModelError):
        splitting_name(words, tmp_path)
