"""Ingredients of ``head`` × data sets × seeds: resumable runs, each compared with the plain recipe on the same rows.

    python -m benchmarks.recipe                                                   # samples a CPU can do
    python -m benchmarks.recipe --train 3000 --judge 1500 --jobs 8                # on a GPU
    python -m benchmarks.recipe --name recipe-minutes --budget 4 …                # with equal minutes of training
    python -m benchmarks.recipe --name recipe-steps --set epochs=2 …              # with equal steps

Looks for the data sets in $SORTAL_DATA (or --data). A run's own dev rows are drawn from its training rows, and what is judged are
the set's dev rows: no test row is read. Writes benchmarks/results/recipe.json and recipe.md.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import Future, as_completed
from pathlib import Path

from benchmarks.command import command
from benchmarks.paper.pool import processes
from benchmarks.paper.sets import SETS, Sizes, write_set
from benchmarks.recipe.cells import Cell, train
from benchmarks.recipe.summary import markdown, summarise
from benchmarks.recipe.variants import PLAIN, VARIANTS, Settings

RESULTS = Path(__file__).parents[1] / "results"
NAMES = ("banking77", "reuters21578", "goemotions", "patents-sections", "newsgroups20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(NAMES), choices=list(SETS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--train", type=int, default=1000, help="training rows of each set; 0: all")
    parser.add_argument("--judge", type=int, default=600, help="rows that variants are judged on")
    parser.add_argument("--words", type=int, default=80, help="words read of each text; 0: all")
    parser.add_argument("--budget", type=float, default=0, help="minutes of training per run; 0: full epochs")
    parser.add_argument("--name", default="recipe", help="of the results")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at the same time; 0: only summarise those there are"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings for every run")
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    cells = plan(arguments)
    if arguments.jobs:
        waiting = [cell for cell in cells if not cell.finished]
        for sums in (False, True):  # when what they add is there
            train_all([cell for cell in waiting if ("members" in cell.settings) is sums], arguments.jobs)
    keep(cells, arguments)


def plan(arguments: argparse.Namespace) -> list[Cell]:
    """All cells, variant by variant, so that a search that is cut short has tried its first variants everywhere."""
    from sortal.config_files import parse_assignments

    sizes = Sizes(arguments.train or None, arguments.judge or None, 1, arguments.words or None)
    common = {}
    for name in arguments.sets:
        files = write_set(name, Path(arguments.data), sizes, arguments.runs / "data" / name)
        common[name] = {
            "data": files["data"],
            "test": files["dev"],
            "text": "text",
            "label": "labels",
            "id": "id",
            "task": "single" if SETS[name].single else "multi",
            "split_seed": 0,
            **(
                {}
                if SETS[name].single
                else {"metric_for_best_model": "f1_micro", "threshold_metric": "f1_micro"}
            ),
            **({"max_minutes": arguments.budget} if arguments.budget else {}),
            **parse_assignments(arguments.set),
        }
    return [
        Cell(name, variant, seed, settings_of(variant, seed, common[name], arguments.runs / name))
        for seed in range(arguments.seeds)
        for variant in arguments.variants
        for name in arguments.sets
    ]


def settings_of(variant: str, seed: int, common: Settings, folder: Path) -> Settings:
    """Of ``common``, of the plain recipe and of ``variant`` what its method has; ``folder`` holds the runs of its set."""
    from sortal.config import applies

    def run(name: str) -> str:
        return str(folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}")

    own = VARIANTS[variant]
    method = own.get("method", "head")
    shared = {key: value for key, value in {**common, **VARIANTS[PLAIN]}.items() if applies(key, method)}
    members = {"members": tuple(map(run, own["members"]))} if "members" in own else {}
    return {**shared, **own, **members, "seed": seed, "out": run(variant)}


def train_all(cells: list[Cell], jobs: int) -> None:
    """Train the cells, ``jobs`` at a time; one that fails is said and left."""
    with processes(jobs) as pool:
        running: dict[Future[dict[str, float]], Cell] = {pool.submit(train, cell): cell for cell in cells}
        for done in as_completed(running):
            cell = running[done]
            error = done.exception()
            print(f"{cell.set:18} {cell.variant:38} {cell.seed}  {error or done.result()}", flush=True)


def keep(cells: list[Cell], arguments: argparse.Namespace) -> None:
    """Write the results."""
    texts = f", {arguments.words} words of each text" if arguments.words else ""
    budget = f", {arguments.budget:g} minutes of training per run" if arguments.budget else ""
    found = {
        "command": command("recipe", ("--data", "--runs", "--jobs")),
        "about": f"smollm2-135m, {arguments.train or 'all'} training rows of each set{texts}, {arguments.seeds} seed(s){budget}; plain: the defaults.",
        "devices": sorted({cell.device for cell in cells if cell.finished}),
        **summarise(cells),
    }
    path = RESULTS / f"{arguments.name}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(found), encoding="utf-8")


if __name__ == "__main__":
    main()
