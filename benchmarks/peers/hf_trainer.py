"""The peer of the speed benchmark: transformers' sequence classifier, peft and Trainer, as their documentation shows them.

bf16 weights, rows padded to the longest of a batch, everything not set here the libraries' own default. Rows come as token ids, in the order in which
they shall be taken.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)


class RecordingTrainer(Trainer):
    """Keeps every batch's loss as fp32 makes it of the logits: the logged one is rounded to bf16."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._batch_losses: list[torch.Tensor] = []

    @property
    def batch_losses(self) -> list[float]:
        """Of all forwards so far; only here is a GPU waited for."""
        return [float(loss) for loss in self._batch_losses]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **named: Any
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **named)
        logits, labels = outputs.logits.detach().float(), inputs["labels"]
        multi = labels.dim() == 2
        exact = (
            F.binary_cross_entropy_with_logits(logits, labels) if multi else F.cross_entropy(logits, labels)
        )
        self._batch_losses.append(exact)
        return (loss, outputs) if return_outputs else loss


def build_model(
    base: str, *, labels: int, multi: bool, pad_id: int, dtype: str, quantization: str, lora_r: int, lora_alpha: int,
    projections: list[str], device: str,
) -> Any:  # fmt: skip
    """A peft model on ``device``."""
    four_bit: dict[str, Any] = {}
    if quantization == "nf4":
        four_bit = {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=getattr(torch, dtype),
            ),
            # Accelerate takes "cuda" and the first GPU for different devices.
            "device_map": {"": 0 if device == "cuda" else device},
        }
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=labels,
        problem_type="multi_label_classification" if multi else "single_label_classification",
        pad_token_id=pad_id,
        dtype=getattr(torch, dtype),
        **four_bit,
    )
    if four_bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(
        model,
        LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=lora_r,
            lora_alpha=lora_alpha,
            lora_dropout=0.0,
            target_modules=projections,
        ),
    )


def build_trainer(
    model: Any,
    rows: list[dict[str, Any]],
    *,
    pad_id: int,
    learning_rate: float,
    batch_size: int,
    forward_rows: int,
    seed: int,
    output_dir: str,
    bf16: bool = False,
) -> RecordingTrainer:
    """A Trainer over one pass of ``rows`` ("input_ids" and "labels"), ready to ``train()``; ``bf16`` is its mixed precision."""
    on_cpu = not torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=output_dir,
        per_device_train_batch_size=forward_rows,
        gradient_accumulation_steps=batch_size // forward_rows,
        num_train_epochs=1,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        seed=seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        bf16=bf16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
    )

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in batch)
        ids = torch.full((len(batch), width), pad_id)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for i, row in enumerate(batch):
            n = len(row["input_ids"])
            ids[i, :n], mask[i, :n] = torch.tensor(row["input_ids"]), 1
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": torch.tensor([row["labels"] for row in batch]),
        }

    trainer = RecordingTrainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(PrinterCallback)  # it stands in for the progress bar and prints every step
    return trainer
