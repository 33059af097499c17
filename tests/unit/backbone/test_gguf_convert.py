"""A converted GGUF holds the values its blocks stand for and a tokenizer that splits as the model was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_files import write_gguf
from sortal.backbone import gguf_convert
from sortal.errors import ModelError


def converted(tmp_path, **options):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    written = write_gguf(tmp_path / "tiny.gguf", **options)
    out = tmp_path / "out"
    out.mkdir()
    facts = gguf_convert.convert(tmp_path / "tiny.gguf", out)
    return written, facts, AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)


def rotary_layout(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp stores rotary pairs interleaved, transformers as two halves."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


@pytest.mark.parametrize(
    ("quantisation", "dtype"), [("F32", torch.float32), ("Q4_1", torch.bfloat16), ("F16", torch.bfloat16)]
)
def test_weights_are_the_dequantised_values(tmp_path, quantisation, dtype):
    written, facts, model, _ = converted(tmp_path, quantisation=quantisation)
    state = model.state_dict()
    expected = {
        "model.embed_tokens.weight": written["token_embd.weight"],
        "model.layers.1.mlp.down_proj.weight": written["blk.1.ffn_down.weight"],
        "model.layers.0.self_attn.q_proj.weight": rotary_layout(written["blk.0.attn_q.weight"], 4),
        "model.layers.0.self_attn.k_proj.weight": rotary_layout(written["blk.0.attn_k.weight"], 2),
        "model.layers.0.self_attn.v_proj.weight": written["blk.0.attn_v.weight"],
    }
    for name, values in expected.items():
        assert state[name].dtype == dtype
        assert torch.equal(state[name], torch.from_numpy(values.copy()).to(dtype)), name
    assert facts.quantisation == quantisation
    assert facts.note.startswith(
        "de-quantised from GGUF Q4_1" if quantisation == "Q4_1" else "converted from GGUF"
    )


def test_saved_folder_is_dense_and_complete(tmp_path):
    _, _, model, tokenizer = converted(tmp_path, quantisation="Q4_1", template="{{ messages[0]['content'] }}")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not any(name.endswith((".bin", ".gguf")) for name in names)
    assert getattr(model.config, "quantization_config", None) is None
    assert tokenizer.is_fast
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 0)
    assert tokenizer.model_max_length == 128
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_tokenizer_isolates_digits_before_white_space(tmp_path):
    _, _, _, tokenizer = converted(tmp_path)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("he\n\n12").input_ids)
    assert pieces == ["he", "ĊĊ", "1", "2"]
    for text in ("he said\t«né» 日本 🙂", "  two  spaces 12.50", "a<|end|>b"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|end|>").input_ids == [0]


def test_digit_step_is_added_once():
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    gguf_convert.split_single_digits(backend)
    once = backend.to_str()
    gguf_convert.split_single_digits(backend)
    assert backend.to_str() == once
    assert "Digits" in once


@pytest.mark.parametrize("damage", ["truncated", "junk", "empty"])
def test_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[: len(content) // 2], "junk": b"GGUF" + b"x" * 500, "empty": b""}[damage]
    )
    with pytest.raises(ModelError, match=r"tiny\.gguf is not a readable GGUF"):
        gguf_convert.read_facts(path)


def test_unknown_architecture_is_named(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes().replace(b"llama", b"zebra"))
    with pytest.raises(ModelError, match="architecture 'zebra'"):
        gguf_convert.convert(path, tmp_path)
