"""Random weights of published shapes on one device: every network is made once and takes the steps of all its cases, one process in all.

Cases come in the order of their worth, and what is found is kept after each: a run that is cut off has the most telling ones.
"""

from __future__ import annotations

import gc
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.speed.case import Case, read_rows, same_start
from benchmarks.speed.sets import save_config, shape_case
from benchmarks.speed.train import (
    counted,
    hf_network,
    hf_steps,
    settings_of,
    sortal_network,
    sortal_steps,
)
from benchmarks.speed.weights import made_on

CONTEXT = 600_000_000  # bytes that CUDA and its libraries take of a card beside tensors
SMALL_CARD, SMALL_TOKENS = 8_000_000_000, 2048
# Short steps are cheap, so that more of them are taken: and as many before, in which Sortal records the sizes of packs that come again.
MORE_STEPS = {128: 6, 512: 3}
WARMUP = {128: 12, 512: 8}


@dataclass(frozen=True)
class Group:
    """Cases of one shape and quantisation."""

    name: str
    folders: tuple[Path, ...]


def groups(arguments: Any) -> list[Group]:
    """Of the quantisations, shapes and lengths that are asked for, in their order; all rows are written here."""
    bases = {shape: save_config(shape, arguments.work / shape) for shape in arguments.shapes}
    settings = {
        "batch_size": arguments.batch_size,
        "dtype": arguments.dtype,
        "device": arguments.device,
        "learning_rate": arguments.learning_rate,
    }
    made = []
    for quantization, shape in product(arguments.quantizations, arguments.shapes):
        folders = []
        for longest in arguments.lengths:
            warmup = WARMUP.get(longest, 1)
            steps = warmup + arguments.steps * MORE_STEPS.get(longest, 1)
            folder = arguments.work / f"{shape}-{quantization}-{longest}-{steps}x{arguments.batch_size}"
            sizes = {"steps": steps, "warmup": warmup}
            folders.append(
                shape_case(bases[shape], shape, longest, quantization, folder, **sizes, **settings)
            )
            if longest == arguments.small_card and quantization == "nf4":
                small = {
                    "max_tokens": SMALL_TOKENS,
                    "memory": SMALL_CARD,
                    "steps": 1 + arguments.steps,
                }
                folder = folder.with_name(f"{folder.name}-small")
                folders.append(
                    shape_case(bases[shape], shape, longest, quantization, folder, **small, **settings)
                )
        made.append(Group(f"{shape}-{quantization}", tuple(folders)))
    return made


def run(made: list[Group], arguments: Any, write: Callable[[dict[str, Any]], None]) -> None:
    """Take all turns there is time for; ``write`` gets what is found, after every case."""
    rates: list[dict[str, Any]] = []
    for turn in range(arguments.repeats):
        for group in made:
            for side in SIDES:
                if arguments.seconds and elapsed() > arguments.seconds:
                    print(f"{arguments.seconds} s are used up", flush=True)
                    return
                if not rates:
                    rates.append(matrix_products(arguments.device))
                takes_turn(group, side, turn, arguments, lambda: write(found(made, arguments, rates)))


def elapsed() -> float:
    """Seconds since this process began."""
    return time.time() - psutil.Process().create_time()


def matrix_products(device: str) -> dict[str, Any]:
    """As `benchmarks.speed.peak`, in this process."""
    from benchmarks.step import matrix_rate

    rate = matrix_rate(torch.bfloat16, torch.device(device), 8192 if device == "cuda" else 512)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {"flops": rate, "threads": torch.get_num_threads(), "device": name}


def takes_turn(group: Group, side: str, turn: int, arguments: Any, write: Callable[[], None]) -> None:
    """One side's network of a group takes the steps of its cases that were not taken yet."""
    waiting = [f for f in group.folders if not kept(f, side, turn).exists() and side in sides(Case.read(f))]
    if not waiting:
        return
    began, network, measured = elapsed(), None, None
    try:
        make, steps = SIDES[side]
        with made_on(arguments.device):
            network = make(Case.read(waiting[0]))
        start = arguments.work / f"{group.name}-start"
        start.mkdir(exist_ok=True)
        same_start(network if side == "hf" else network.classifier, start)
        print(f"{elapsed():4.0f} s  {group.name} {side}: loaded in {elapsed() - began:.1f} s", flush=True)
        measured = steps(network)
    except Exception as error:
        for folder in waiting:
            failed(folder, side, turn, error)
        error.__traceback__ = None
        write()
    for folder in waiting if measured is not None else ():
        if arguments.seconds and elapsed() > arguments.seconds:
            break
        began = elapsed()
        try:
            if not (folder / "start.safetensors").exists():
                os.link(start / "start.safetensors", folder / "start.safetensors")
            case = Case.read(folder)
            with card(case):
                turn_found = measured(case, folder)
            kept(folder, side, turn).write_text(json.dumps(turn_found) + "\n")
            print(
                f"{elapsed():4.0f} s  {folder.name} {side}: {elapsed() - began:.1f} s, {brief(turn_found, case.warmup)}",
                flush=True,
            )
        except Exception as error:
            failed(folder, side, turn, error)
            error.__traceback__ = None
        write()
    network = measured = None
    release()


def sides(case: Case) -> tuple[str, ...]:
    """Who takes part: a budget of tokens is Sortal's own."""
    return ("sortal",) if case.max_tokens else tuple(SIDES)


def kept(folder: Path, side: str, turn: int) -> Path:
    return folder / f"{side}-{turn}.json"


def failed(folder: Path, side: str, turn: int, error: Exception) -> None:
    """Tell, and keep for the page; the next run tries again."""
    lines = str(error).strip().splitlines() or [""]
    print(f"{elapsed():4.0f} s  {folder.name} {side} failed: {type(error).__name__}: {lines[0]}", flush=True)
    traceback.print_exception(error)
    kept(folder, side, turn).with_suffix(".failed").write_text(f"{type(error).__name__}: {lines[0][:200]}\n")


def brief(turn: dict[str, Any], first: int) -> str:
    """Tokens per second of the steps behind the ``first``, and memory."""
    rate = sum(turn["tokens"][first:]) / sum(turn["seconds"][first:])
    return f"{rate:,.0f} real tokens/s, peak {turn['peak_memory_bytes'] / 1e9:.2f} GB"


def release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def card(case: Case) -> Iterator[None]:
    """Inside, peaks are counted anew, and no more memory can be had than a card of ``case.memory`` bytes has."""
    release()
    if case.device != "cuda":
        yield
        return
    torch.cuda.reset_peak_memory_stats()
    if case.memory:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction((case.memory - CONTEXT) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def of_sortal(model: Any) -> Callable[[Case, Path], dict[str, Any]]:
    """Steps of ``model`` with the microbatches and the estimate of a user's run, and what it really took."""
    from types import SimpleNamespace

    from sortal.backbone.lora import decoder_layers
    from sortal.methods.step_budget import fit_steps, network_of
    from sortal.training.distributed import alone

    rehearsed: list[Any] = []

    def measured(case: Case, folder: Path) -> dict[str, Any]:
        device, chosen, said = torch.device(case.device), [], []
        config = settings_of(case)
        if not rehearsed:
            rehearsed.append(network_of(model, config, device))
        network = rehearsed[0]

        def budget(objective: Any) -> Any:
            context: Any = SimpleNamespace(config=config, processes=alone(device), say=said.append)
            chosen.append(fit_steps(context, model, objective, network))
            return chosen[0]

        try:
            turn = sortal_steps(case, folder, model, budget)
        finally:
            for layer in decoder_layers(model):
                layer.__dict__.pop("forward", None)  # of checkpointing
        return {
            **turn,
            **counted(case, folder, "sortal"),
            **memory_of(case),
            "checkpointing": chosen[0].checkpointing,
            "said": said,
            "estimated_peak_bytes": chosen[0].peak_bytes,
            **planned(case, folder, network, turn["max_tokens"], chosen[0].checkpointing),
        }

    return measured


def planned(case: Case, folder: Path, network: Any, max_tokens: int, checkpointing: bool) -> dict[str, int]:
    """The peak as it is estimated from the config alone, for the largest microbatch of the case."""
    from sortal.backbone.packing import microbatches
    from sortal.training.budget import kept_by_libraries

    lengths = read_rows(folder)[0].lengths
    steps = lengths[case.order()].reshape(case.steps, case.batch_size)
    most = max(int(step[part].sum()) for step in steps for part in microbatches(step.tolist(), max_tokens))
    memory = network.checkpointed if checkpointing else network.plain
    held = sum(network.weights()) + kept_by_libraries(network.device, network.dtype)
    return {
        "largest_microbatch": most,
        "planned_peak_bytes": held + memory.of_tokens(most, int(lengths.max())),
    }


def of_hf(model: Any) -> Callable[[Case, Path], dict[str, Any]]:
    """Steps of ``model`` in the largest forwards that fit."""

    def measured(case: Case, folder: Path) -> dict[str, Any]:
        while True:
            try:
                turn = hf_steps(case, folder, model)
                return {**turn, **counted(case, folder, "hf"), **memory_of(case), "peer_rows": case.peer_rows}
            except torch.OutOfMemoryError:
                if case.peer_rows == 1:
                    raise
            case = replace(case, peer_rows=case.peer_rows // 2)
            print(f"out of memory: forwards of {case.peer_rows} rows", flush=True)
            release()

    return measured


def memory_of(case: Case) -> dict[str, int]:
    if case.device != "cuda":
        return {}
    return {"reserved_memory_bytes": int(torch.cuda.max_memory_reserved())}


SIDES: dict[str, tuple[Callable[[Case], Any], Callable[[Any], Callable[[Case, Path], dict[str, Any]]]]] = {
    "sortal": (sortal_network, of_sortal),
    "hf": (hf_network, of_hf),
}


def found(made: list[Group], arguments: Any, rates: list[dict[str, Any]]) -> dict[str, Any]:
    """All that is kept, for the page."""
    training = []
    for folder in (folder for group in made for folder in group.folders):
        case = Case.read(folder)
        turns: dict[str, list[Any]] = {side: [] for side in sides(case)}
        failures = {}
        for side, some in turns.items():
            for turn in range(arguments.repeats):
                path = kept(folder, side, turn)
                if path.exists():
                    some.append(json.loads(path.read_text()))
                elif path.with_suffix(".failed").exists():
                    failures[side] = path.with_suffix(".failed").read_text().strip()
        if any(turns.values()) or failures:
            training.append({"case": case.told(), "turns": turns, "failed": failures})
    return {"training": training, "peak": rates}
