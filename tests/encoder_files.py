"""Tiny random encoders of several families, saved as transformers saves them, and the same read by plain transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ENCODERS = ("bert", "roberta", "deberta-v2", "modernbert", "distilbert", "sentence")


def save_tiny_encoder(family: str, folder: Path, *, seed: int = 0) -> Path:
    """A random 2-layer encoder; ``sentence`` is a BERT published with sentence-transformers."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

    torch.manual_seed(seed)
    kind = "bert" if family == "sentence" else family
    tokenizer = byte_bpe() if kind in ("roberta", "modernbert") else letters()
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 130,
        "pad_token_id": tokenizer.pad_token_id,
    }
    more: dict[str, Any] = {
        "roberta": {"type_vocab_size": 1},
        "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
        "modernbert": {
            **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep")},
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    }
    config = AutoConfig.for_model(kind, **shape, **more.get(kind, {}))
    model = (AutoModel if family == "sentence" else AutoModelForMaskedLM).from_config(config)
    # Random initial weights give nearly constant states; larger ones make a wrong token or mask visible.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "position" not in name:
                parameter.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if family == "sentence":
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128}))
    return folder


def letters() -> Any:
    """A WordPiece tokenizer of single lower-case letters, with BERT's special tokens."""
    from transformers import BertTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = [chr(i) for i in range(33, 127) if not chr(i).isupper()]
    pieces += [*characters, *(f"##{c}" for c in characters)]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})


def byte_bpe() -> Any:
    """RoBERTa's tokenizer without merges."""
    from tokenizers import pre_tokenizers
    from transformers import RobertaTokenizer

    pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "<mask>"]
    return RobertaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])


def plain_scores(folder: Path, texts: Sequence[str]) -> Any:
    """Logits ``[n, labels]`` of one padded batch, by the documented lines of plain transformers."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        if not (folder / "score.safetensors").exists():
            model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
            return model(**batch).logits.numpy()
        states = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
        mask, score = batch["attention_mask"][..., None], load_file(folder / "score.safetensors")
        mean = (states * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.linear(mean, score["weight"], score["bias"]).numpy()
