"""From a resolved model source to a decoder, with a ``score`` head or as a language model: dtype, quantisation, parity check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.pytorch_utils import Conv1D

from sortal.backbone import attention, held
from sortal.backbone.packing import pack
from sortal.backbone.pooling import pool, token_states
from sortal.backbone.quiet import quiet
from sortal.config import RunConfig
from sortal.errors import MissingDependencyError, ModelError

_DROPOUTS = (
    "attention_dropout",
    "attn_pdrop",
    "resid_pdrop",
    "embd_pdrop",
    "hidden_dropout",
    "dropout",
    "attn_dropout",
)


def load_tokenizer(path: str, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model's fast tokenizer.

    Raises:
        ModelError: there is none; templates live in its post-processor.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path}: no tokenizer could be loaded ({_first_line(error)})",
            "check that the folder holds tokenizer.json",
        ) from None
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{path}: its tokenizer has no fast version (tokenizer.json)",
            "convert it with transformers first",
        )
    return tokenizer


def load_config(path: str, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model's text configuration."""
    try:
        return AutoConfig.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code
        ).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path}: not a model transformers can read ({_first_line(error)})",
            "give a folder with config.json",
        ) from None


def weights_as(config: RunConfig, device: torch.device) -> dict[str, Any]:
    """How a run wants weights, as arguments of `load_classifier` and `load_language_model`."""
    return {
        "dtype": choose_dtype(config.dtype, device),
        "device": device,
        "quantization": config.quantization,
        "nf4_backend": config.nf4_backend,
        "trust_remote_code": config.trust_remote_code,
    }


def weights_as_saved(meta: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """How a saved model had them, from sortal.json."""
    return {
        "dtype": getattr(torch, meta["dtype"]),
        "device": device,
        "quantization": meta["quantization"],
        "nf4_backend": meta["nf4_backend"],
    }


def load_classifier(
    path: str,
    config: Any,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantization: str = "none",
    nf4_backend: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """``AutoModelForSequenceClassification`` over a pretrained decoder, with a fresh fp32 ``score``; base frozen, in eval mode.

    Args:
        config: its ``num_labels``, ``id2label``, ``problem_type`` and ``pad_token_id`` are already set.

    Raises:
        ModelError: not a decoder, or weights are missing beyond ``score``.
        MissingDependencyError: 4-bit asked for without bitsandbytes.
    """

    def check(model: Any, missing: list[str]) -> None:
        lost = [key for key in missing if not key.startswith("score.")]
        if lost or not isinstance(getattr(model, "score", None), nn.Linear):
            what = (
                f"weights missing: {', '.join(lost[:3])}"
                if lost
                else f"{type(model).__name__} is not a decoder with a score head"
            )
            raise ModelError(
                f"{path}: {what}",
                "method head needs a causal language model; encoders have a method of their own",
            )
        fresh_score(model, config, device)

    return _load(
        AutoModelForSequenceClassification,
        path,
        config,
        check,
        dtype=dtype,
        device=device,
        quantization=quantization,
        nf4_backend=nf4_backend,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )


def load_language_model(
    path: str,
    config: Any,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantization: str = "none",
    nf4_backend: str = "auto",
    trust_remote_code: bool = False,
) -> Any:
    """``AutoModelForCausalLM`` with every pretrained weight in its place; frozen, in eval mode.

    Raises:
        ModelError: not a causal language model, or weights are missing.
        MissingDependencyError: 4-bit asked for without bitsandbytes.
    """

    def check(model: Any, missing: list[str]) -> None:
        if missing:
            raise ModelError(
                f"{path}: weights missing: {', '.join(missing[:3])}",
                "method instruct needs a complete causal language model",
            )

    return _load(
        AutoModelForCausalLM,
        path,
        config,
        check,
        dtype=dtype,
        device=device,
        quantization=quantization,
        nf4_backend=nf4_backend,
        trust_remote_code=trust_remote_code,
    )


def _load(
    auto: Any,
    path: str,
    config: Any,
    check: Callable[[Any, list[str]], None],
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantization: str,
    nf4_backend: str,
    trust_remote_code: bool,
    revision: str | None = None,
) -> Any:
    for name in _DROPOUTS:  # the base is frozen; its pre-training dropouts are not part of the recipe
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, 0.0)
    extra: dict[str, Any] = {}
    on_cuda = device.type == "cuda"
    if getattr(config, "quantization_config", None) is not None:  # by whoever published the checkpoint
        extra = {"device_map": {"": device}}
    elif quantization == "nf4" and (on_cuda or nf4_backend == "bitsandbytes"):
        extra = {"quantization_config": _nf4_config(dtype), "device_map": {"": device}}
    with quiet():
        try:
            model, info = auto.from_pretrained(
                path,
                config=config,
                dtype=dtype,
                revision=revision,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **extra,
            )
        except ImportError as error:
            raise MissingDependencyError(
                f"{path}: its weights need a package that is not installed ({_first_line(error)})",
                "pip install 'sortal[gpu]' for bitsandbytes, or use a checkpoint that is not quantised",
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{path}: cannot be loaded as a decoder ({_first_line(error)})",
                "use a causal language model with safetensors weights",
            ) from None
    check(model, sorted(info["missing_keys"]))
    if quantization == "nf4" and not extra:
        requantize_nf4_(model, dtype)
    if extra:
        _keep_gradients_on_cpu(model)
    if "quantization_config" in extra:
        # The saved config.json goes with the 16-bit base; with this key transformers would take that base for a 4-bit one.
        del model.config.quantization_config
    model.requires_grad_(False)
    model.eval()
    held.place(model, None if extra else device)
    return model


def fresh_score(model: Any, config: Any, device: torch.device) -> None:
    """Replace ``score`` by a plain fp32 ``Linear(hidden, labels, bias=False)``; a 4-bit load may have quantised it."""
    score = nn.Linear(config.hidden_size, config.num_labels, bias=False, dtype=torch.float32, device=device)
    nn.init.normal_(score.weight, std=getattr(config, "initializer_range", 0.02) or 0.02)
    model.score = score


def _nf4_config(dtype: torch.dtype) -> Any:
    _require_bitsandbytes()
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["score", "lm_head"],
    )


def requantize_nf4_(model: nn.Module, dtype: torch.dtype) -> None:
    """Round every decoder projection to its NF4 values (double quantisation) and keep those in ``dtype``, in place.

    The values a GPU multiplies with, without the slow 4-bit products of a CPU.
    """
    _require_bitsandbytes()
    from bitsandbytes import functional as bnb

    from sortal.backbone.lora import layer_index

    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and layer_index(path) is not None:
            flip = isinstance(module, Conv1D)  # GPT-2 stores [in, out]; blocks of 64 run along the inputs
            weight = module.weight.data.float()
            packed, state = bnb.quantize_4bit(
                weight.t().contiguous() if flip else weight, quant_type="nf4", compress_statistics=True
            )
            values = bnb.dequantize_4bit(packed, state).to(dtype)
            module.weight.data = values.t().contiguous() if flip else values


def _keep_gradients_on_cpu(model: Any) -> None:
    # On CPUs with AVX512-BF16, bitsandbytes repacks weights in eval mode and then silently drops input gradients.
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _require_bitsandbytes() -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "quantization nf4 needs bitsandbytes, which is not installed", "pip install 'sortal[gpu]'"
        ) from None


def enable_packing(model: Any) -> bool:
    """Switch ``model`` to packed rows if it gives the same states as one example at a time; else leave it padded.

    Every architecture is put to the test on a few tokens, because a model that ignores the pack would leak across
    examples without a warning (transformers does so with ``use_cache=True``).
    """
    base = getattr(model, model.base_model_prefix)
    if not getattr(type(base), "_supports_attention_backend", False):
        return False
    before = model.config._attn_implementation
    rng = torch.Generator().manual_seed(0)
    vocabulary = int(model.config.vocab_size)
    rows = [torch.randint(0, vocabulary, (n,), generator=rng).tolist() for n in (5, 3, 9)]
    device = model.score.weight.device
    with torch.inference_mode():
        alone = [
            base(input_ids=torch.tensor([r], device=device), use_cache=False).last_hidden_state[0, -1]
            for r in rows
        ]
        expected = torch.stack(alone).float()
        model.set_attn_implementation(attention.NAME)
        try:
            packed = pack(rows).to(device)
            together = pool(token_states(base, packed), packed, "last")
        except (RuntimeError, TypeError, ValueError):
            together = torch.full_like(expected, torch.inf)
    tolerance = 1e-3 if model.dtype == torch.float32 else 6e-2
    if (together - expected).norm() <= tolerance * expected.norm():
        return True
    model.set_attn_implementation(before)
    return False


def choose_dtype(setting: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it fast, float32 elsewhere, or what the user said."""
    if setting != "auto":
        return torch.bfloat16 if setting == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    from sortal.backbone.environment import fast_bf16

    return torch.bfloat16 if fast_bf16() else torch.float32


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
