"""From the settings and the training rows to a label space with its tree, and from other rows to labels of that space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sortal.config_hierarchy import LabelTreeConfig
from sortal.data.dataset import Dataset, Labels
from sortal.data.labels import LabelSpace, natural_order
from sortal.data.problems import RowProblems, nearest
from sortal.errors import ConfigError, DataError
from sortal.hierarchy.parent_map import read_parent_map
from sortal.hierarchy.paths import normal_paths, parents_of_paths
from sortal.hierarchy.tree import LabelTree


def tree_space(config: LabelTreeConfig, dataset: Dataset) -> LabelSpace:
    """The label space of training rows, with its tree where the settings say that there is one.

    Single-label: the labels that rows carry, leaves or not; the tree holds their ancestors, too. Multi-label: all nodes.

    Raises:
        DataError: labels that form no tree, naming file, row and label. ConfigError: a level that does not exist.
    """
    if not config.has_tree:
        return LabelSpace.from_dataset(dataset)
    if dataset.labels is None:
        raise DataError(f"{dataset.source} was read without labels", "name the label column")
    parent_of: Mapping[str, str | None]
    if config.path_separator:
        whole = normal_paths(dataset, config.path_separator, None)
        parent_of = parents_of_paths(whole.values(), config.path_separator)
    else:
        whole = {label: label for row in (*dataset.labels, tuple(dataset.label_names or ())) for label in row}
        parent_of = _given_parents(config, dataset)
    levels = dataset.schema.level_columns or config.level_names
    used = _with_ancestors(whole.values(), parent_of)
    deep = LabelTree.from_parents(
        parent_of, sorted(used, key=natural_order), levels=levels, separator=config.path_separator
    )
    if config.level_names and len(config.level_names) != len(deep.levels):
        raise ConfigError(
            f"level_names has {len(config.level_names)} names, and the labels are {len(deep.levels)} levels deep",
            "name every level once, the top one first",
        )
    # Level columns below the chosen one were not read.
    kept = len(deep.levels) if config.level_columns else level_number(config.level, deep.levels)
    cut = {label: deep.path(node)[:kept][-1] for label, node in whole.items()}
    nodes = [node for node, depth in zip(deep.nodes, deep.depth.tolist(), strict=True) if depth <= kept]
    task = dataset.task or "single"
    order = (
        None if dataset.label_names is None else [*dict.fromkeys(cut.get(n, n) for n in dataset.label_names)]
    )
    if task == "multi":
        names = _complete(nodes, order)
        nodes = list(names)
    else:
        names = tuple(order or sorted(set(cut.values()), key=natural_order))
    is_cut = kept < len(deep.levels)
    tree = LabelTree.from_parents(
        parent_of,
        nodes,
        levels=deep.levels,
        separator=config.path_separator,
        cut=is_cut,
        # With several labels per row, what an unseen one implies must be known wherever rows are measured.
        below=_below(parent_of, nodes) if config.parent_map and (is_cut or task == "multi") else {},
    )
    return LabelSpace(names, task, tree)


def level_number(level: str | None, names: Sequence[str]) -> int:
    """Which level is meant, 1 at the top; None means the last.

    Raises:
        ConfigError: there is none of that name or number.
    """
    if level is None:
        return len(names)
    if level in names:
        return names.index(level) + 1
    if level.isdecimal() and 1 <= int(level) <= len(names):
        return int(level)
    raise ConfigError(
        f"level {level!r} is none of the levels{nearest(level, names)}",
        f"choose from {', '.join(map(repr, names))}, or a number from 1 to {len(names)}",
    )


def columns_to_level(config: LabelTreeConfig) -> tuple[str, ...]:
    """The level columns down to the chosen level.

    Raises:
        ConfigError: the level is none of them.
    """
    columns = config.level_columns
    return columns[: level_number(config.level, columns)] if columns else ()


def in_space(dataset: Dataset, space: LabelSpace) -> Dataset:
    """``dataset`` with its labels as ``space`` spells them: paths in their one spelling, and cut where the space is.

    Raises:
        DataError: a path with an empty level.
    """
    tree = space.tree
    if tree is None or dataset.labels is None:
        return dataset
    _refuse_other_parents(dataset, tree)
    if tree.separator is not None:
        names = normal_paths(dataset, tree.separator, len(tree.levels) if tree.cut else None)
    else:
        below = dict(tree.below) if tree.cut else {}
        names = {label: below.get(label, label) for row in dataset.labels for label in row}
    if all(label == name for label, name in names.items()):
        return dataset
    return dataset.with_labels(
        [tuple(dict.fromkeys(names[label] for label in row)) for row in dataset.labels]
    )


def spelled(labels: Sequence[Labels], space: LabelSpace) -> list[Labels]:
    """Labels of rows in memory as those of ``space``: as in `in_space`, and with several per row their ancestors, too. Unknown ones stay.

    Raises:
        DataError: a path with an empty level.
    """
    tree = space.tree
    found = in_space(Dataset.from_lists([""] * len(labels), labels), space).labels or []
    if tree is None or space.task == "single":
        return found
    return [
        tuple(
            dict.fromkeys(
                node for name in row for node in (tree.path(name) if name in tree.index else (name,))
            )
        )
        for row in found
    ]


def _refuse_other_parents(dataset: Dataset, tree: LabelTree) -> None:
    """Refuse level columns that put a known node elsewhere than the training rows did."""
    for name, parent in (dataset.parent_of or {}).items():
        known = tree.path(name)[-2::-1][:1] if name in tree.index else (parent,)
        if (known[0] if known else None) != parent:
            raise DataError(
                f"{dataset.source}: {name!r} lies {_under(parent)} here and {_under(known[0] if known else None)} in the training data",
                "correct the level columns",
            )


def _under(parent: str | None) -> str:
    return "at the top level" if parent is None else f"under {parent!r}"


def _given_parents(config: LabelTreeConfig, dataset: Dataset) -> Mapping[str, str | None]:
    """Parents from the level columns or the parent map, in which every label of the rows must be."""
    if config.parent_map is None:
        if dataset.parent_of is None:
            raise ConfigError(
                "level_columns are for files, and these rows are in memory",
                "give path_separator or parent_map",
            )
        return dataset.parent_of
    parent_of = read_parent_map(config.parent_map)
    problems = RowProblems(dataset.source, f"add the label to {config.parent_map}, or correct it here")
    where = f"column {dataset.schema.label!r}, " if dataset.schema.label else ""
    for position, row in enumerate(dataset.labels or []):
        for label in row:
            if label not in parent_of:
                hint = nearest(label, parent_of)
                problems.add(
                    int(dataset.rows[position]), f"{where}label {label!r} is not in {config.parent_map}{hint}"
                )
    problems.raise_if_any()
    if stray := [label for label in dataset.label_names or () if label not in parent_of]:
        raise DataError(
            f"{dataset.source}: the declared label {stray[0]!r} is not in {config.parent_map}", problems.fix
        )
    return parent_of


def _with_ancestors(nodes: Iterable[str], parent_of: Mapping[str, str | None]) -> set[str]:
    found: set[str] = set()
    for start in nodes:
        node: str | None = start
        while node is not None and node not in found:
            found.add(node)
            node = parent_of[node]
    return found


def _below(parent_of: Mapping[str, str | None], nodes: Sequence[str]) -> dict[str, str]:
    """Every label of a parent map under one of the kept ``nodes`` that is not kept itself → its nearest kept ancestor."""
    kept, found = set(nodes), {}
    for label in parent_of:
        node: str | None = label
        while node is not None and node not in kept:
            node = parent_of[node]
        if node is not None and node != label:
            found[label] = node
    return found


def _complete(nodes: Sequence[str], order: Sequence[str] | None) -> tuple[str, ...]:
    """All ``nodes``, those of the declared order first, if there is one."""
    return tuple(nodes) if order is None else tuple(dict.fromkeys((*order, *nodes)))
