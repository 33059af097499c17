"""The matrix of a comparison: one cell per method and seed, each an ordinary run on the same split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sortal.comparison.names import BLENDED, check_name, form, is_seedless, members_of, plain_method, scopes
from sortal.config import RunConfig, applies, build_config, refuse_unknown
from sortal.config_hierarchy import DATA_FIELDS
from sortal.config_presets import PRESETS
from sortal.errors import ConfigError, RunFolderError
from sortal.methods import REGISTRY, get_method
from sortal.model_folder import read_meta
from sortal.parts import Parts
from sortal.run_members import differing
from sortal.training.runfolder import RunFolder

BEST = "+".join(PRESETS["best"]["members"])
Status = Literal["waiting", "running", "finished", "failed", "stopped"]


@dataclass(frozen=True)
class Cell:
    """One method with one seed; its run folder is ``config.out``.

    method: as it is asked for: ``head+tfidf``, ``head@small`` and ``head+encoder`` included.
    """

    method: str
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """``head-0``."""
        return f"{self.method}-{self.seed}"

    @property
    def folder(self) -> RunFolder:
        """Where its run is, or will be."""
        return RunFolder(str(self.config.out))

    @property
    def status(self) -> Status:
        """What the run folder says; a run that a killed process left counts as stopped."""
        if self.folder.state() == "new":
            return "waiting"
        status = self.folder.read_run_json()["status"]
        return "stopped" if status == "running" else status


def plan(settings: Mapping[str, Any], methods: Sequence[str], seeds: int, out: Path) -> list[Cell]:
    """All cells, seed by seed, so that an unfinished matrix can be compared as far as it goes.

    A method that is not trained in steps has one cell: every seed gives the same classifier.

    Args:
        settings: of `RunConfig`; ``method.setting`` is for that method alone, and any other for all methods it applies to.
        methods: names in the registry; ``head+tfidf`` is ``head`` with ``blend: tfidf``, ``head@small`` is ``head`` with settings
            of its own: ``head@small.keep_layers``, and ``head+encoder`` is the ensemble of both. Each is a method of its own here.
        seeds: training seeds 0 … seeds − 1, on one split.
        out: folder of the comparison.

    Raises:
        ConfigError: an unknown or repeated method, settings that cannot work, or one that no compared method has.
    """
    if not methods:
        raise ConfigError("no methods are named", f"choose from {', '.join(REGISTRY)}")
    for method in methods:
        check_name(method, methods)
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}", "use 1 or more; with 3 the spread between seeds can be told")
    refuse_unknown({key: value for key, value in settings.items() if "." not in key}, "settings")
    known = set().union(*map(scopes, methods))
    for method in methods:
        if (
            "@" in method
            and not members_of(method)
            and not any(key.partition(".")[0] in scopes(method) for key in settings)
        ):
            raise ConfigError(
                f"{method}: nothing tells it from {plain_method(method)}",
                f"give it a setting of its own: --set {form(method)}.KEY=VALUE",
            )
    for key in settings:
        scope, dot, name = key.partition(".")
        if dot and scope not in known:
            raise ConfigError(f"{key}: {scope!r} is not compared", f"methods are {', '.join(methods)}")
        if dot and name in DATA_FIELDS:
            raise ConfigError(
                f"{key}: the methods share their data", f"write {name} without {scope}, for all"
            )
        if (name or key) == "blend":
            raise ConfigError(
                f"{key}: what is blended is a method of its own here", f"compare METHOD and METHOD{BLENDED}"
            )
        if (name or key) == "members":
            raise ConfigError(f"{key}: an ensemble's name says what it adds", "write METHOD+METHOD")
        if (name or key) == "preset" and settings[key] == "best":
            raise ConfigError(
                f"{key}: preset best adds the scores of several methods, and a sum is a method of its own here",
                f"compare {BEST.replace('+', ', ')} and {BEST}",
            )
        if not dot and not any(applies(key, plain_method(method)) for method in methods):
            raise ConfigError(f"{key} applies to none of {', '.join(methods)}", "leave it out")
    return [
        Cell(method, seed, _config(settings, method, seed, out))
        for seed in range(seeds)
        for method in methods
        if seed == 0 or not is_seedless(method)
    ]


def _config(settings: Mapping[str, Any], method: str, seed: int, out: Path) -> RunConfig:
    plain = plain_method(method)
    shared = {key: value for key, value in settings.items() if "." not in key and applies(key, plain)}
    own = {
        key.removeprefix(f"{scope}."): value
        for scope in sorted(scopes(method), key=len)
        for key, value in settings.items()
        if key.startswith(f"{scope}.")
    }
    fixed = {"method": plain, "seed": seed, "split_seed": settings.get("split_seed", 0)}
    if members := members_of(method):
        runs = (f"{member}-{0 if is_seedless(member) else seed}" for member in members)
        fixed["members"] = tuple(str(out / "runs" / run) for run in runs)
    elif applies("blend", plain):
        fixed["blend"] = "none" if form(method) == method else BLENDED.removeprefix("+")
    return build_config({**shared, **own, **fixed, "out": str(out / "runs" / f"{method}-{seed}")}, method)


def check(cells: Sequence[Cell], parts: Parts) -> None:
    """Refuse, before anything runs, cells that cannot fit the task and runs in the folder that are not these cells.

    Raises:
        ConfigError: settings that do not fit the labels. RunFolderError: a finished run of other data or settings.
    """
    for cell in cells:
        get_method(cell.config.method).check(cell.config, parts.train, parts.label_space)
    for cell in cells:
        if cell.status == "waiting":
            continue
        if changed := differing(cell.folder, cell.config, parts):
            raise RunFolderError(
                f"{cell.folder.path} holds a run of {cell.method} that differs: {'; '.join(changed)}",
                "compare in another --out, or delete that folder to run it again",
            )
        if cell.status == "finished" and cell.config.members:
            _check_members(cell)


def _check_members(cell: Cell) -> None:
    """Refuse an ensemble of runs that were made again after it, or are about to be."""
    from sortal.methods.ensemble_scorer import digest

    shares = [member["share"] for member in cell.folder.read_run_json()["training"]["members"]]
    kept = [RunFolder(name) for name, share in zip(cell.config.members, shares, strict=True) if share]
    saved = [member["sha256"] for member in read_meta(cell.folder.model)["members"]]
    for member, expected in zip(kept, saved, strict=True):
        if member.state() != "finished" or digest(member.model) != expected:
            raise RunFolderError(
                f"{cell.folder.path} adds another run than the one in {member.path}",
                f"delete {cell.folder.path} to add them again",
            )
