"""Hub data sets (``owner/name``, ``name:config``, ``…#split``) and folders written by `datasets`' ``save_to_disk``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sortal.data.arrow import ArrowRecords, names_in_metadata
from sortal.data.problems import listed, nearest
from sortal.data.records import BATCH_ROWS
from sortal.errors import DataError, ResourceError

_ID = re.compile(r"(?P<path>[A-Za-z0-9][\w.-]*(/[\w.-]+)?)(:(?P<config>[\w.-]+))?(#(?P<split>[\w.-]+))?")


def looks_like_hub_id(source: str) -> bool:
    """Whether ``source`` has the form ``[owner/]name[:config][#split]``."""
    return _ID.fullmatch(source) is not None


class HubRecords(ArrowRecords):
    """One split of a hub data set, or of a ``save_to_disk`` folder.

    Raises:
        ResourceError: the hub cannot be reached.
        DataError: no such data set, configuration or split.
    """

    def __init__(self, source: str) -> None:
        self.name = source
        path, _, wanted = source.partition("#")
        dataset = _loaded(source)
        if hasattr(dataset, "keys"):
            splits = [str(name) for name in dataset.keys()]  # noqa: SIM118 - a DatasetDict is asked for its splits
            split = wanted or ("train" if "train" in splits else splits[0] if len(splits) == 1 else "")
            if split not in splits:
                raise DataError(
                    f"{path} has no split {split or 'train'!r}{nearest(split, splits)}",
                    f"choose one of {listed(splits)}: {path}#{splits[0]}",
                )
            dataset = dataset[split]
        self._dataset = dataset.with_format("arrow")
        schema: pa.Schema = dataset.features.arrow_schema
        self.columns = tuple(schema.names)
        self.class_names = names_in_metadata(schema.metadata or {})

    def arrow_batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """See `ArrowRecords.arrow_batches`."""
        if not columns:
            return
        for table in self._dataset.select_columns(columns).iter(batch_size=BATCH_ROWS):
            yield from table.to_batches()


def hub_splits(source: str) -> dict[str, str]:
    """Split name → source string for each split of a hub id or ``save_to_disk`` folder."""
    path = source.partition("#")[0]
    dataset = _loaded(path)
    return {str(name): f"{path}#{name}" for name in dataset} if hasattr(dataset, "keys") else {"train": path}


def is_saved_dataset(folder: Path) -> bool:
    """Whether ``folder`` was written by ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _loaded(source: str) -> Any:
    import datasets

    path, _, _ = source.partition("#")
    if Path(path).is_dir():
        try:
            return datasets.load_from_disk(path)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} is not a complete saved data set: {_first_line(error)}", "save it again"
            ) from None
    match = _ID.fullmatch(source)
    if match is None:
        raise DataError(
            f"{source!r} is neither a file nor a hub id", "give a path, or owner/name[:config][#split]"
        )
    name, config = match["path"], match["config"]
    try:
        with _without_retries():
            return datasets.load_dataset(name, config)
    except datasets.exceptions.DatasetNotFoundError as error:
        if _is_network(error):
            raise _offline(source) from None
        raise DataError(
            f"there is no file and no hub data set {source!r}: {_first_line(error)}", "check the spelling"
        ) from None
    except Exception as error:
        if _is_network(error):
            raise _offline(source) from None
        raise DataError(
            f"hub data set {source!r} cannot be loaded: {_first_line(error)}",
            "check its name and configuration",
        ) from None


@contextlib.contextmanager
def _without_retries() -> Iterator[None]:
    """Offline mode while the hub does not answer, so that cached data loads at once and the rest fails at once."""
    import datasets
    from huggingface_hub import constants, get_session

    flags = [(constants, "HF_HUB_OFFLINE"), (datasets.config, "HF_HUB_OFFLINE")]
    before = [getattr(module, name) for module, name in flags]
    try:
        if not any(before):
            get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:
        if not _is_network(error):
            raise
        for module, name in flags:
            setattr(module, name, True)
    try:
        yield
    finally:
        for (module, name), value in zip(flags, before, strict=True):
            setattr(module, name, value)


def _offline(source: str) -> ResourceError:
    return ResourceError(
        f"{source!r} is not a file here and the hub cannot be reached to look for a data set of that name",
        "check the path, or the network and proxy settings, or download the data and give the file",
    )


def _is_network(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        kind = {base.__name__ for base in type(seen).__mro__}
        if kind & {
            "ConnectionError",
            "ConnectError",
            "OfflineModeIsEnabled",
            "TimeoutError",
            "Timeout",
            "LocalEntryNotFoundError",
            "ProxyError",
            "TransportError",
        }:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
