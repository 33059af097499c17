"""The peer of the prompt→response benchmark: fine-tuning as TRL's documentation shows it, then `generate`.

Runs in an environment with `trl` (see the `bench` extra). Everything not set here is TRL's or transformers'
own default, bf16 autocast and AdamW included. Prompts are finished strings: neither side applies a chat
template to them.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def build_trainer(
    model_path: str,
    rows: list[dict[str, str]],
    *,
    lora_r: int,
    lora_alpha: int,
    learning_rate: float,
    batch_size: int,
    steps: int,
    seed: int,
    max_length: int,
    output_dir: str,
) -> SFTTrainer:
    """An SFTTrainer over ``rows``, ready to ``train()``; its loss is a batch's mean over completion tokens.

    Args:
        rows: "prompt" and "completion" strings; the completion ends in the tokenizer's end-of-sequence token,
            and the prompt has no first token that the tokenizer adds by itself.

    Raises:
        ValueError: TRL would train on other tokens than the rows say.
    """
    on_cpu = not torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=output_dir,
        model_init_kwargs={"dtype": "bfloat16"},  # TRL loads float32 unless told
        max_length=max_length,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=1,
        activation_checkpointing=False,  # gradient_checkpointing's new name; TRL turns it on unless told
        max_steps=steps,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        seed=seed,
        data_seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a NaN is logged as the mean of the losses before it
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
    )
    trainer = SFTTrainer(
        model=model_path,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            r=lora_r,
            lora_alpha=lora_alpha,
            lora_dropout=0.0,
            target_modules=PROJECTIONS,
            task_type="CAUSAL_LM",
        ),
    )
    trainer.remove_callback(PrinterCallback)  # it stands in for the progress bar and prints every step
    _check_tokens(trainer, len(rows))
    return trainer


def _check_tokens(trainer: SFTTrainer, expected: int) -> None:
    """TRL cuts completions and drops rows without a word: such a benchmark would time something else."""
    tokenizer = trainer.processing_class
    ids = trainer.train_dataset["input_ids"]
    if len(ids) != expected:
        raise ValueError(
            f"TRL dropped {expected - len(ids)} rows whose prompt alone fills max_length: raise it"
        )
    if cut := sum(row[-1] != tokenizer.eos_token_id for row in ids):
        raise ValueError(f"max_length cut the completion of {cut} rows: raise it")
    if any(len(row) > 1 and row[0] == row[1] == tokenizer.bos_token_id for row in ids):
        raise ValueError(
            "the tokenizer adds a first token that the prompts hold already: leave it out of them"
        )


def generate_labels(
    model: Any,
    tokenizer: Any,
    prompts: list[str],
    labels: list[str],
    *,
    batch_size: int = 32,
    max_new_tokens: int,
) -> tuple[list[str | None], int]:
    """One answer per prompt, greedily generated and matched to a label, and how many matched none.

    Batches are taken in the order given; sorting by length is left out, as users leave it out.
    """
    model.eval()
    answers: list[str | None] = []
    for start in range(0, len(prompts), batch_size):
        batch = tokenizer(
            prompts[start : start + batch_size], return_tensors="pt", padding=True, padding_side="left"
        ).to(model.device)
        out = model.generate(
            **batch,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        answers += [match_label(text, labels) for text in new]
    return answers, answers.count(None)


def match_label(answer: str, labels: list[str]) -> str | None:
    """The label that ``answer`` is, else starts with, else contains (the longest if several), else None."""
    answer = answer.strip()
    if answer in labels:
        return answer
    longest_first = sorted(filter(None, labels), key=len, reverse=True)
    begins = (label for label in longest_first if answer.startswith(label))
    holds = (label for label in longest_first if label in answer)
    return next(begins, None) or next(holds, None)
