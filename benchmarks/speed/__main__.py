"""Fine-tuning and prediction beside the scripts people use today: the same rows, model, LoRA, examples per step and order, in turn.

    pip install -e '.[bench]'
    python -m benchmarks.speed --peers hf,trl --sets banking77,reuters21578 --data DIR
    python -m benchmarks.speed --only inference --models banking77=RUN/model
    python -m benchmarks.speed --device cuda --repeats 1 --steps 2 --seconds 150        # random weights of 8, 1 and 3 billion parameters
    python -m benchmarks.speed --device cpu --shapes tiny --lengths 32,64     # the same, to try it out
    python -m benchmarks.speed --profile

Training: Sortal's own loop against AutoModelForSequenceClassification + peft + Trainer (``hf``), A B A B, every turn in a process of its own with the same
threads and cores. Both read the same token ids (raw text and EOS), start from the same weights and take the same rows in each step; the losses must agree.
A third row is Sortal with its default template, which reads more tokens for each text. ``trl`` runs `benchmarks.instruct`, on Banking77.
Inference: ``predict_proba`` against ``pipeline("text-classification")`` on the same model exported.

Shapes: one process makes each network on the device, Sortal's and then the peer's, and takes the steps of all lengths; `benchmarks.speed.shapes`.

Every turn's figures are kept below --work; a stopped benchmark goes on, and a table is made of all that is there (--fresh begins anew).
Writes benchmarks/results/speed.json and speed.md, of shapes speed-cuda.json and speed-cuda.md (on a CPU below --work), and with --profile speed-profile.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import command
from benchmarks.speed.case import Case
from benchmarks.speed.children import ROOT, Children
from benchmarks.speed.inference import inference
from benchmarks.speed.sets import prepare, text_case
from benchmarks.speed.words import page

RESULTS = ROOT / "benchmarks" / "results"
TRAIN = "benchmarks.speed.train"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SORTAL_DATA"), help="folder of the data sets"
    )
    parser.add_argument("--peers", default="hf", type=words, help="hf, trl or both")
    parser.add_argument("--sets", default="banking77,reuters21578", type=words)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--steps", type=int, default=3, help="reported steps of each turn, after one that warms up"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="examples of an optimiser step")
    parser.add_argument("--texts", type=int, default=256, help="texts to predict")
    parser.add_argument("--repeats", type=int, default=2, help="turns of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cores", type=lambda given: tuple(map(int, given.split(","))), help="the only ones: 0,1"
    )
    parser.add_argument(
        "--only", choices=["training", "inference"], help="the other half of the page is kept"
    )
    parser.add_argument(
        "--models",
        default="",
        type=words,
        help="SET=MODEL_FOLDER of finished heads, to predict with; default: a short run",
    )
    parser.add_argument(
        "--adapter", help="MODEL_FOLDER of a finished instruct run on Banking77, for generate (trl)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shapes", type=words, help="8b, 1b, 3b, tiny; default on CUDA: the first three")
    parser.add_argument(
        "--lengths", default="512,2048,128", type=lambda given: list(map(int, given.split(",")))
    )
    parser.add_argument("--quantizations", default="nf4,none", type=words)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument(
        "--small-card", type=int, default=512, help="the length that NF4 is tried at on a card of 8 GB, too"
    )
    parser.add_argument("--seconds", type=float, help="of shapes: begin nothing after so many")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "speed")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument(
        "--profile", action="store_true", help="operators of Sortal's step by their share of time"
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda" and arguments.shapes is None:
        arguments.shapes = ["8b", "1b", "3b"]
    if arguments.shapes is None and arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    if arguments.shapes:
        of_shapes(arguments)
        return
    children = Children(arguments.threads, arguments.cores)
    if arguments.profile:
        profile(arguments, children)
        return
    made = {
        "command": command("speed", ("--data", "--work", "--models", "--adapter")),
        "threads": arguments.threads,
    }
    halves = [arguments.only] if arguments.only else ["training", "inference"]
    found = (
        earlier(RESULTS / "speed.json") if arguments.only else {"training": [], "inference": [], "made": {}}
    )
    found["made"] |= dict.fromkeys(halves, made)
    if arguments.only != "inference":
        found["training"] = [
            training(folder, sides, arguments, children) for folder, sides in texts(arguments)
        ]
        found["peak"] = [peak(arguments.work, turn, children) for turn in range(arguments.repeats)]
    if arguments.only != "training":
        given = dict(pair.split("=", 1) for pair in arguments.models)
        found["inference"] = [
            inference(name, given.get(name), arguments, children) for name in arguments.sets
        ]
    if "trl" in arguments.peers and "banking77" in arguments.sets and arguments.only != "inference":
        found["instruct"] = instruct(arguments, children)
    write(found, RESULTS, "speed")
    print(page(found))


def earlier(path: Path) -> dict[str, Any]:
    """What was measured before, the other half of which is kept, with the command that made it."""
    if not path.exists():
        return {"training": [], "inference": [], "made": {}}
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def with_earlier(before: dict[str, Any], found: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Cases found now, each with how it was made, and those of before that are others, with the rates of both."""
    measured = [{**one, "made": made, "peak": found["peak"]} for one in found["training"]]
    names = {one["case"]["name"] for one in measured}
    training = [*measured, *(one for one in before["training"] if one["case"]["name"] not in names)]
    training.sort(key=lambda one: one["case"]["name"].split(", up to")[0])
    peak = {json.dumps(rate): rate for one in training for rate in one["peak"]}
    return {"made": {}, "peak": list(peak.values()), "training": training, "inference": []}


def write(found: dict[str, Any], folder: Path, name: str) -> None:
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / f"{name}.md").write_text(page(found))


def of_shapes(arguments: Any) -> None:
    """Random weights on one device; the page is written after every case, with those that it had before and that are not measured again."""
    from benchmarks.speed import shapes

    arguments.work.mkdir(parents=True, exist_ok=True)
    folder = RESULTS if arguments.device == "cuda" else arguments.work
    before = earlier(folder / "speed-cuda.json")
    made = {"command": command("speed", ("--work",)), "threads": torch.get_num_threads()}

    def keep(found: dict[str, Any]) -> None:
        write(with_earlier(before, found, made), folder, "speed-cuda")

    shapes.run(shapes.groups(arguments), arguments, keep)
    if (folder / "speed-cuda.md").exists():
        print((folder / "speed-cuda.md").read_text())


def words(given: str) -> list[str]:
    return [word for word in given.split(",") if word]


def texts(arguments: Any) -> list[tuple[Path, list[str]]]:
    """Cases of the public sets with the sides that take part: equal work, then the default template, which the peer lacks."""
    made: list[tuple[Path, list[str]]] = []
    steps, size = arguments.steps + 1, arguments.batch_size
    for name in arguments.sets:
        rows = prepare(name, arguments.data, arguments.work / f"{name}-rows", steps * size, arguments.texts)
        for template in ("eos", "summary"):
            folder = arguments.work / f"{name}-{template}-{steps}x{size}-{arguments.threads}"
            settings = {"steps": steps, "batch_size": size, "peer_rows": size, "dtype": arguments.dtype}
            text_case(name, rows, arguments.model, template, folder, **settings)
            peer = ["hf"] if template == "eos" and "hf" in arguments.peers else []
            made.append((folder, ["sortal", *peer]))
    return made


def training(folder: Path, sides: list[str], arguments: Any, children: Children) -> dict[str, Any]:
    """Both sides' turns, A B A B; a turn that fails, for want of memory say, is told and the others go on."""
    case = Case.read(folder)
    turns: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    failed: dict[str, str] = {}
    for turn in range(arguments.repeats):
        for side in sides:
            try:
                turns[side].append(
                    children.once(folder / f"{side}-{turn}.json", ["-m", TRAIN, side, str(folder)])
                )
            except RuntimeError as error:
                failed[side] = str(error).strip().splitlines()[-1]
    return {"case": case.told(), "turns": turns, "failed": failed}


def peak(work: Path, turn: int, children: Children) -> dict[str, Any]:
    return children.once(work / f"peak-{children.threads}-{turn}.json", ["-m", "benchmarks.speed.peak"])


def instruct(arguments: Any, children: Children) -> dict[str, Any]:
    """Figures of `benchmarks.instruct`, at a size that this one can bear."""
    folder = arguments.work / f"instruct-{arguments.threads}"
    if not (folder / "instruct.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        told = ["--data", str(arguments.data), "--model", arguments.model, "--results", str(folder)]
        more = ["--adapter", arguments.adapter] if arguments.adapter else []
        children.run(["-m", "benchmarks.instruct", *told, "--steps", "2", "--batch-size", "8", *more])
    found: dict[str, Any] = json.loads((folder / "instruct.json").read_text())
    return found


def profile(arguments: Any, children: Children) -> None:
    folder, _ = texts(arguments)[0]
    found = children.run(["-m", "benchmarks.speed.profile", str(folder)])
    lines = f"# Where Sortal's training step spends its time\n\n`{command('speed', ('--data', '--work'))}`: {found}"
    (RESULTS / "speed-profile.md").write_text(lines)
    print(lines)


if __name__ == "__main__":
    main()
