"""Method ``instruct`` against TRL's SFTTrainer and ``generate``, side by side on Banking77 with all 77 labels in the prompt.

    pip install -e '.[bench]'
    python -m benchmarks.instruct --data DIR --steps 4 --texts 64

Training: the same optimiser steps (same rows, prompts and LoRA, same examples per step) in turn, A B A B, in one process; reported are real
examples per second and the loss per answer token of both, which must agree. Scoring: every label's exact probability against greedy
``generate`` and string match with the same tuned weights (``--adapter``, a finished run's model folder), merged for the peer.
Writes benchmarks/results/instruct.json and instruct.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SORTAL_DATA"), help="folder of the data sets"
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--adapter", type=Path, default=None, help="model folder of a finished Banking77 run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the two files it writes")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    found: dict[str, Any] = {
        "command": f"python -m benchmarks.instruct --steps {arguments.steps} --batch-size {arguments.batch_size} --texts {arguments.texts}"
        + (" --adapter MODEL_FOLDER" if arguments.adapter else ""),
        "threads": torch.get_num_threads(),
        "training": training(arguments),
    }
    if arguments.adapter is not None:
        found["scoring"] = scoring(arguments)
    (arguments.results / "instruct.json").write_text(json.dumps(found, indent=1) + "\n")
    (arguments.results / "instruct.md").write_text(markdown(found))
    print(markdown(found))


def training(arguments: Any) -> dict[str, Any]:
    """Seconds and losses of the same steps on both sides."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    from benchmarks.peers.step_timer import StepTimer
    from benchmarks.peers.trl_sft import build_trainer
    from sortal.backbone import loading
    from sortal.backbone.language_model import LanguageModel, enable_trees
    from sortal.backbone.lora import add_lora, fuse, trainable
    from sortal.backbone.sources import resolve
    from sortal.config import build_config
    from sortal.data.labels import LabelSpace
    from sortal.data.reading import read
    from sortal.methods.instruct_prompt import gold_positions, make_prompt
    from sortal.methods.instruct_rows import ResponseLoss, Trunks

    config = build_config({"method": "instruct", "model": arguments.model, "learning_rate": 2e-4})
    train = read(
        arguments.data / "banking77" / "train.csv", text=("text",), label="category", say=lambda line: None
    )
    space = LabelSpace.from_dataset(train)
    size, steps = arguments.batch_size, arguments.steps + 1  # the first step warms up
    rows = train.take(np.random.default_rng(0).permutation(len(train))[: size * steps])
    path = resolve(arguments.model).path
    tokenizer = loading.load_tokenizer(path)
    gold = space.encode(rows)
    prompt, _ = make_prompt(config, space, tokenizer, rows, gold)
    trunks = Trunks(prompt, prompt.encode(rows.iter_texts()))
    strings = [
        {
            "prompt": tokenizer.decode([*trunks.shared.tolist(), *trunks[i].tolist()]),
            "completion": tokenizer.decode(prompt.response(labels)),
        }
        for i, labels in enumerate(gold_positions(gold))
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            path,
            strings,
            lora_r=config.lora_r,
            lora_alpha=config.lora_alpha,
            learning_rate=config.learning_rate,
            batch_size=size,
            steps=steps,
            seed=0,
            max_length=2048,
            output_dir=folder,
        )
        device = trainer.args.device
        settings = loading.load_config(path)
        base = loading.load_language_model(path, settings, dtype=torch.bfloat16, device=device)
        shares = enable_trees(base)
        model = LanguageModel(add_lora(base, config), shares)
        fuse(model)
        set_peft_model_state_dict(model.model, get_peft_model_state_dict(trainer.model))  # the same start
        objective = ResponseLoss(
            model, trunks, gold_positions(gold), len(space), weights=torch.ones(len(rows))
        )
        answer_tokens = np.array([len(r) for r in objective.responses])
        parameters = trainable(model)
        optimizer = torch.optim.AdamW(
            parameters.values(), lr=config.learning_rate, weight_decay=0.0, fused=True
        )
        ours: dict[str, list[float]] = {"seconds": [], "losses": [], "tokens": []}
        order: list[np.ndarray[Any, Any]] = []

        class InTurn(StepTimer):
            """After each of the peer's steps, ours on the same rows; its time is not the peer's."""

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                super().on_step_end(args, state, control, **kwargs)
                batch = order[len(ours["seconds"])]
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * (1 - len(ours["seconds"]) / steps)
                began = time.perf_counter()
                optimizer.zero_grad()
                losses = objective.losses(batch)
                # The peer's loss is a mean over answer tokens, so ours is here, too.
                value = losses.sum() / answer_tokens[batch].sum()
                value.backward()
                torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
                optimizer.step()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                ours["seconds"].append(time.perf_counter() - began)
                ours["losses"].append(float(value.detach()))
                ours["tokens"].append(float(objective.lengths[batch].sum() + objective.shared_tokens))
                self.restart()

        ids = {
            tuple(trainer.processing_class(row["prompt"] + row["completion"])["input_ids"]): i
            for i, row in enumerate(strings)
        }
        peer_step = trainer.training_step

        def recorded(network: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
            real = inputs["attention_mask"].sum(1).tolist()
            rows_of = [ids[tuple(row[:n].tolist())] for row, n in zip(inputs["input_ids"], real, strict=True)]
            order.append(np.array(rows_of))
            return peer_step(network, inputs, *more, **named)

        trainer.training_step = recorded
        timer = InTurn()
        trainer.add_callback(timer)
        trainer.train()
    whole = [len(trunks.shared) + len(trunks[i]) + len(objective.responses[i]) for i in range(len(rows))]
    peer_tokens = [float(sum(whole[i] for i in batch)) for batch in order]
    ratios = [a / b for a, b in zip(timer.seconds[1:], ours["seconds"][1:], strict=True)]
    return {
        "model": arguments.model,
        "examples_per_step": size,
        "prompt_tokens": len(trunks.shared),
        "peer": side(timer.seconds[1:], timer.losses, size, peer_tokens),
        "ours": side(ours["seconds"][1:], ours["losses"], size, ours["tokens"]),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "largest_loss_difference": round(
            max(abs(a - b) for a, b in zip(timer.losses, ours["losses"], strict=False)), 4
        ),
        "peak_memory_bytes_of_both": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def side(seconds: list[float], losses: list[float], size: int, tokens: list[float]) -> dict[str, Any]:
    return {
        "seconds_per_step": [round(s, 3) for s in seconds],
        "examples_per_second": round(size / statistics.median(seconds), 3),
        "tokens_per_step": statistics.median(tokens),
        "losses": [round(value, 4) for value in losses],
    }


def scoring(arguments: Any) -> dict[str, Any]:
    """Texts per second of exact label probabilities and of ``generate``, in turn."""
    from benchmarks.peers.trl_sft import generate_labels
    from sortal import load
    from sortal.backbone.language_model import LanguageModel
    from sortal.data.reading import read

    classifier = load(arguments.adapter)
    scorer: Any = classifier.scorer
    prompt = scorer.prompt
    test = read(
        arguments.data / "banking77" / "test.csv", text=("text",), label="category", say=lambda line: None
    )
    rows = test.take(np.random.default_rng(1).permutation(len(test))[: arguments.texts])
    texts, gold = rows.texts, classifier.label_space.encode(rows)
    trunks = scorer.trunks(texts)
    strings = [
        prompt.tokenizer.decode([*trunks.shared.tolist(), *trunks[i].tolist()]) for i in range(len(texts))
    ]
    wordings = list(prompt.verbalizer.answers)
    merged = plain_model(arguments.adapter, classifier.meta)
    longest = max(len(answer) for answer in prompt.answers) + 1
    sides = {
        "labels": scorer.deciding(),
        "probabilities": scorer,
        "every node": replace(scorer, scoring=replace(scorer.scoring, tolerance=0.0)),
    }
    if torch.cpu._is_vnni_supported():
        sides["labels, int8"] = load(arguments.adapter, weights="int8").scorer.deciding()
    half = len(texts) // 2
    seconds: dict[str, list[float]] = {name: [] for name in ("generate", *sides)}
    answers: dict[str, list[Any]] = {name: [] for name in seconds}
    computed = dict.fromkeys(sides, 0)
    states, unmatched = LanguageModel.states, 0
    for side_ in sides.values():
        side_.score(texts[:4])  # warm-up; a loaded model computes its prompt here, once for all
    for part in (slice(0, half), slice(half, None)):
        began = time.perf_counter()
        found, missed = generate_labels(
            merged, prompt.tokenizer, strings[part], wordings, batch_size=32, max_new_tokens=longest
        )
        seconds["generate"].append(time.perf_counter() - began)
        answers["generate"] += [None if a is None else wordings.index(a) for a in found]
        unmatched += missed
        for name, side_ in sides.items():

            def counted(self: Any, rows: Any, *more: Any, name: str = name, **named: Any) -> Any:
                computed[name] += sum(len(row.ids) for row in rows)
                return states(self, rows, *more, **named)

            LanguageModel.states = counted  # type: ignore[method-assign]
            began = time.perf_counter()
            scores = side_.score(texts[part])
            seconds[name].append(time.perf_counter() - began)
            LanguageModel.states = states  # type: ignore[method-assign]
            answers[name] += scores.argmax(1).tolist()
    speed = {name: len(texts) / sum(times) for name, times in seconds.items()}
    read = sum(len(prompt.tokenizer(string).input_ids) for string in strings)
    written = sum(len(prompt.answers[a]) if a is not None else longest for a in answers["generate"])
    tokens = {"generate": read + written, **computed}
    return {
        "texts": len(texts),
        "max_new_tokens": longest,
        "tolerance": scorer.scoring.tolerance,
        "texts_per_second": {name: round(value, 3) for name, value in speed.items()},
        "tokens_per_text": {name: round(count / len(texts), 1) for name, count in tokens.items()},
        "ratio": {name: round(speed[name] / speed["generate"], 2) for name in sides},
        "ratio_range": {
            name: sorted(round(a / b, 2) for a, b in zip(seconds["generate"], seconds[name], strict=True))
            for name in sides
        },
        "accuracy": {
            name: round(float(np.mean(np.array(a, dtype=float) == gold)), 4) for name, a in answers.items()
        },
        "unmatched_answers": unmatched,
        "same_answers_as_every_node": {
            name: round(float(np.mean(np.array(answers[name]) == np.array(answers["every node"]))), 4)
            for name in sides
        },
    }


def plain_model(folder: Path, meta: dict[str, Any]) -> Any:
    """The same weights as transformers and peft load and merge them, for the peer."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from sortal.backbone.sources import resolve

    base = AutoModelForCausalLM.from_pretrained(
        resolve(meta["base_model"]["spec"]).path, dtype=getattr(torch, meta["dtype"])
    )
    return PeftModel.from_pretrained(base, folder).merge_and_unload()


def markdown(found: dict[str, Any]) -> str:
    t = found["training"]
    lines = [
        "# Method instruct beside TRL",
        "",
        f"`{found['command']}`: {t['model']}, Banking77, all 77 labels in a prompt of {t['prompt_tokens']} tokens, {t['examples_per_step']} examples per step, "
        f"{found['threads']} threads. Absolute figures mean something on this machine only.",
        "",
        "| training | tokens computed per step | s / step | examples/s | loss per answer token, step by step |",
        "|---|---|---|---|---|",
    ]
    for name, key in (("TRL SFTTrainer", "peer"), ("Sortal", "ours")):
        s = t[key]
        losses = ", ".join(f"{value:.3f}" for value in s["losses"][: len(t["ours"]["losses"])])
        lines.append(
            f"| {name} | {s['tokens_per_step']:,.0f} | {statistics.median(s['seconds_per_step']):.2f} | {s['examples_per_second']:.2f} | {losses} |"
        )
    low, high = t["ratio_range"]
    lines += [
        "",
        f"{t['ratio']:.1f}× the examples per second (range over steps {low:.1f}–{high:.1f}); largest difference in loss {t['largest_loss_difference']:.4f}. "
        "On a CPU, TRL computes logits over the vocabulary at every position, prompt included; on CUDA its kernels need not.",
        "",
    ]
    if "scoring" in found:
        s = found["scoring"]
        lines += [
            "| scoring | tokens computed per text | texts/s | × generate (two halves) | accuracy | |",
            "|---|---|---|---|---|---|",
        ]
        same = s["same_answers_as_every_node"]
        notes = {
            "generate": f"greedy, at most {s['max_new_tokens']} tokens, batches of 32, adapter merged; {s['unmatched_answers']} answers match no label",
            "labels": f"`predict`: the likeliest label; {same['labels']:.1%} the answers of every node",
            "probabilities": f"`predict_proba`: every label's probability, tolerance {s['tolerance']:g}; {same['probabilities']:.1%} the answers of every node",
            "every node": "every label's probability, every node of the tree computed",
        }
        if "labels, int8" in same:
            notes["labels, int8"] = (
                f"`predict --weights int8`; {same['labels, int8']:.1%} the answers of every node in 16 bits"
            )
        for name, note in notes.items():
            ratio = ""
            if name in s["ratio"]:
                ratio = f"{s['ratio'][name]:.1f} ({' – '.join(f'{r:.1f}' for r in s['ratio_range'][name])})"
            lines.append(
                f"| {name} | {s['tokens_per_text'][name]:.1f} | {s['texts_per_second'][name]:.2f} | {ratio} | {s['accuracy'][name]:.3f} | {note} |"
            )
        lines += [
            "",
            f"{s['texts']} texts. The prompt is read once by Sortal, before the clock starts, and with every text by `generate`; tokens bound what sharing it can give.",
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
