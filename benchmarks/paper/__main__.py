"""Methods × data sets × seeds, compared on the same rows with the same training time, from the runs' own records.

    python -m benchmarks.paper --seeds 3 --budget 10                       # declared samples: 1,000 training rows
    python -m benchmarks.paper --seeds 3 --train 0 --dev 0 --test 0 --words 0 --budget 0   # everything, in full epochs

Looks for the data sets in $SORTAL_DATA (or --data). Each set is a `sortal compare` in its own folder: stopped or killed, the same
command goes on. With --jobs above 1 the runs of all sets share the machine, the largest first, so their times are not those of runs alone.
Writes NAME.json and NAME.md in benchmarks/results from the sets that are finished; --jobs 0 only compares the runs there are,
which may come from another machine and without their weights (of ``model`` the file ``sortal.json`` is enough).
With --first-seed the runs of lower seeds are not made; what is compared are the runs there are.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.command import command
from benchmarks.paper.pool import train_all
from benchmarks.paper.sets import SETS, Sizes, write_set
from benchmarks.paper.summary import summary

RESULTS = Path(__file__).parents[1] / "results"
STUDY = ("banking77", "reuters21578", "goemotions", "patents-sections", "patents-subclasses", "newsgroups20")
METHODS = (
    "majority",
    "tfidf",
    "encoder",
    "encoder+tfidf",
    "probe",
    "head",
    "head+tfidf",
    "head+encoder+tfidf",
    "instruct",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(STUDY), choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="N", help="make seeds N … SEEDS − 1 only"
    )
    parser.add_argument("--train", type=int, default=1000, help="training rows of each set; 0: all")
    parser.add_argument("--dev", type=int, default=300)
    parser.add_argument("--test", type=int, default=600)
    parser.add_argument("--words", type=int, default=80, help="words read of each text; 0: all")
    parser.add_argument(
        "--budget", type=float, default=10, help="minutes of training per run; 0: full epochs"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings for every run")
    parser.add_argument("--name", default="paper", help="of the results")
    parser.add_argument("--data", type=Path, default=os.environ.get("SORTAL_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of the data sets with --data or $SORTAL_DATA")
    sizes = Sizes(
        arguments.train or None, arguments.dev or None, arguments.test or None, arguments.words or None
    )
    settings = {name: settings_of(name, sizes, arguments) for name in arguments.sets}
    if arguments.jobs > 1 or (arguments.jobs and arguments.first_seed):
        train_all({arguments.runs / name: settings[name] for name in settings}, arguments)
    for name in arguments.sets:
        found = study(name, settings[name], sizes, arguments)
        keep(name if sizes.train else f"{name}, all rows", found, arguments.name)


def settings_of(name: str, sizes: Sizes, arguments: argparse.Namespace) -> dict[str, Any]:
    """What all runs of a set have in common; its files are written."""
    from sortal.config_files import parse_assignments

    single = SETS[name].single
    return {
        **write_set(name, Path(arguments.data), sizes, arguments.runs / "data" / name),
        "text": "text",
        "label": "labels",
        "id": "id",
        "task": "single" if single else "multi",
        # as `sortal compare` chooses them by the figure that it tests
        **({} if single else {"metric_for_best_model": "f1_micro", "threshold_metric": "f1_micro"}),
        **({"max_minutes": arguments.budget} if arguments.budget else {}),
        **parse_assignments(arguments.set),
    }


def study(name: str, settings: dict[str, Any], sizes: Sizes, arguments: argparse.Namespace) -> dict[str, Any]:
    """One finished comparison: its JSON, with how it was made."""
    import sortal

    folder = arguments.runs / name
    files = {part: settings[part] for part in ("data", "dev", "test")}
    found = sortal.compare(
        settings["data"],
        methods=arguments.methods,
        seeds=arguments.seeds,
        out=folder,
        jobs=0 if arguments.first_seed else min(arguments.jobs, 1),
        **{key: value for key, value in settings.items() if key != "data"},
    )
    sortal.report(folder)
    rows = {part: Path(path).read_bytes().count(b"\n") for part, path in files.items()}
    runs = {
        cell["name"]: json.loads((Path(cell["folder"]) / "run.json").read_text(encoding="utf-8"))
        for cell in found.cells
        if cell["status"] == "finished"
    }
    shown = found.to_json()
    for cell in shown["cells"]:  # where it lay on this machine is nobody's business
        if "folder" in cell:
            cell["folder"] = Path(cell["folder"]).relative_to(folder).as_posix()
    return {
        "command": command("paper", ("--data", "--runs", "--jobs")),
        "rows": rows,
        "words": sizes.words,
        "budget_minutes": arguments.budget or None,
        "environments": {name: run["environment"] for name, run in runs.items()},
        **{key: value for key, value in shown.items() if key != "mistakes"},
    }


def keep(name: str, found: dict[str, Any], results: str) -> None:
    """Add or replace a set in the results, and write the table of all."""
    path = RESULTS / f"{results}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept[name] = found
    order = list(SETS)
    ordered = dict(
        sorted(kept.items(), key=lambda item: (order.index(item[0].partition(",")[0]), "," in item[0]))
    )
    path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(ordered), encoding="utf-8")


def markdown(kept: dict[str, Any]) -> str:
    lines = [
        "# Ways to classify with one small causal model, and without",
        "",
        "Means over seeds with 95 % intervals over test rows (and seeds, from two on). Pairs are tested on the same rows; p is corrected within a set (Holm).",
        "",
        *summary(kept),
    ]
    for name, found in kept.items():
        rows, budget = found["rows"], found["budget_minutes"]
        cut = f", {found['words']} words of each" if found["words"] else ""
        time = f"; {budget:g} minutes of training per run" if budget else ""
        lines += [
            f"## {name}",
            "",
            f"{rows['data']:,} training, {rows['dev']:,} dev and {found['test_rows']:,} test texts{cut}{time}. `{found['command']}`",
            "",
            f"| method | runs | {found['metric']} | macro-F1 | ECE | trained | training | texts/s | peak memory |",
            "|---|---|---|---|---|---|---|---|---|",
            *(_row(entry) for entry in sorted(found["methods"], key=lambda entry: -entry["value"])),
            "",
            " ".join(found["advice"]),
            *_machines(found["environments"]),
            "",
        ]
        lines += [
            f"- {pair['verdict']}" for pair in found["pairs"] if "majority" not in (pair["a"], pair["b"])
        ] + [""]
    return "\n".join(lines)


def _machines(environments: dict[str, Any]) -> list[str]:
    """Said where methods did not run on the same device: their times are not to be compared."""
    devices: dict[str, list[str]] = {}
    for run, environment in environments.items():
        devices.setdefault(environment["device"], []).append(run)
    if len(devices) < 2:
        return []
    where = "; ".join(f"{device}: {', '.join(runs)}" for device, runs in devices.items())
    return [
        "",
        f"Times are of different machines and not to be compared; a method's are those on the machine of its first run. {where}.",
    ]


def _row(entry: dict[str, Any]) -> str:
    from sortal.comparison.units import clock, count, size

    cost, quality = entry["cost"], entry["quality"]
    span = "" if entry["interval"] is None else " [{:.3f}, {:.3f}]".format(*entry["interval"])
    trained = count(cost["trainable_parameters"]) if "trainable_parameters" in cost else "–"
    cells = (
        entry["method"],
        str(entry["runs"]),
        f"{entry['value']:.3f}{span}",
        f"{quality['f1_macro']:.3f}",
        f"{quality['ece']:.3f}",
        trained,
        clock(cost["train_seconds"]),
        count(cost["texts_per_second"]),
        size(cost["peak_memory_bytes"]),
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
