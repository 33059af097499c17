"""Engine ``ray``: the same shards, read by Ray Data and scored by a pool of actors that each load the model once.

A worker that dies is replaced and its shard scored again; a shard is stored under its own name by rename, so that twice is as good
as once. Output differs from the local engine's by nothing but what another number of threads or another device does to the last bits.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sortal.bulk.inputs import Input
from sortal.bulk.plan import Plan, Rows, plan
from sortal.bulk.progress import TokenCount
from sortal.bulk.storage import is_url
from sortal.bulk.workers import Crew, crew
from sortal.data.records import Say
from sortal.errors import MissingDependencyError, ResourceError, SortalError
from sortal.training.progress import ProgressView
from sortal.training.signals import StopAsked, StopRequest

if TYPE_CHECKING:
    from sortal.bulk.engine import Engine, Job
    from sortal.bulk.scoring import ShardScorer
    from sortal.bulk.work import Place

# Bytes, for a cluster made for one prediction: the shards on their way are few, and bounded.
_OBJECT_STORE = 256 << 20
_POLL = 0.2
_CALLBACKS = "custom_execution_callback_classes"
# Seconds for Ray Data's threads to end on their own: one that asks Ray for anything after its shutdown ends the process with code 1.
_PATIENCE = 20


def ray_engine(
    workers: int | None, address: str | None
) -> Callable[[StopRequest], AbstractContextManager[Engine]]:
    """What makes the engine on the cluster at ``address``; see `cluster`.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    # Read by Ray when it is imported. Nothing is reported to anybody; and a thread that still draws from a data set when the cluster
    # ends gets an error, where Ray would start a second cluster for it, which nobody ends.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"--engine ray needs Ray Data ({error})", 'run pip install "sortal[ray]"'
        ) from None

    @contextmanager
    def made(stop: StopRequest) -> Iterator[Engine]:
        with cluster(address):
            yield RayEngine(crew(_nodes(), workers), stop)

    return made


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A connection to a running cluster (``address``, or else RAY_ADDRESS), or else a cluster on this machine that ends with the block."""
    import ray
    from ray.exceptions import RayError

    address = address or os.environ.get("RAY_ADDRESS")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **({} if address else own),
        )
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise ResourceError(
            f"no Ray cluster at {address or 'this machine'}: {_first_line(error)}",
            "start one with `ray start --head`, or check --address and, where it asks for a token, RAY_AUTH_MODE=token",
        ) from None
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        for number, handler in handlers.items():  # ray.init puts its own in their place
            with suppress(ValueError):
                signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


def _nodes() -> list[dict[str, float]]:
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


@dataclass(frozen=True)
class RayEngine:
    """Scores with ``crew`` on the connected cluster."""

    crew: Crew
    stop: StopRequest

    def plan(self, inputs: Sequence[Input], reading: Sequence[dict[str, Any]], say: Say) -> list[Plan]:
        """See `Engine.plan`; the inputs are read on the workers, side by side."""
        import ray

        inputs = [replace(each, source=_everywhere(each.source)) for each in inputs]
        task = ray.remote(num_cpus=1)(_planned)
        asked = [task.remote(each, how) for each, how in zip(inputs, reading, strict=True)]
        left = list(asked)
        while left:
            _, left = ray.wait(left, num_returns=len(left), timeout=_POLL)
            if self.stop.requested:
                raise StopAsked
        plans = []
        for made in asked:
            with _our_errors():
                found, lines = ray.get(made)
            for line in lines:
                say(line)
            plans.append(found)
        return plans

    def score(self, job: Job, finished: frozenset[Place], view: ProgressView) -> Iterator[Place]:
        """See `Engine.score`."""
        pending = job.pending(finished)
        if not pending:
            return
        work = replace(job.work, folder=_everywhere(job.work.folder))
        job = replace(job, model_dir=_everywhere(job.model_dir), work=work)
        with _executed(self.stop):
            rows = _dataset(job, finished, pending, self.crew)
        receipts: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()

        def drain() -> None:
            try:
                for receipt in rows.iter_rows():
                    receipts.put(receipt)
                receipts.put(None)
            except BaseException as error:
                receipts.put(error)

        # In a thread, because a signal does not reach a main thread that waits inside Ray.
        drawing = threading.Thread(target=drain, name="sortal-ray", daemon=True)
        drawing.start()
        try:
            while True:
                try:
                    receipt = receipts.get(timeout=_POLL)
                except queue.Empty:
                    if self.stop.requested:
                        raise StopAsked from None
                    continue
                if receipt is None:
                    return
                if isinstance(receipt, BaseException):
                    with _our_errors():
                        raise receipt
                yield receipt["input"], receipt["shard"]
                view.advance(receipt["rows"], receipt["tokens"])
        finally:
            if self.stop.requested:
                drawing.join(_PATIENCE)


def _dataset(job: Job, finished: frozenset[Place], pending: list[int], crew: Crew) -> Any:
    """A lazy data set of one receipt per shard, which scores and stores them when it is drawn from."""
    import ray.data

    inputs = ray.data.from_items([{"input": i} for i in pending], override_num_blocks=len(pending))
    shards = inputs.map_batches(
        _read,
        fn_args=(job.plans, finished),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,  # readers must find a place beside actors that hold every core
        compute=ray.data.TaskPoolStrategy(size=min(crew.workers, len(pending))),
    )
    return shards.map_batches(
        _ScoringActor,
        fn_constructor_args=(job,),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=crew.cpus,
        num_gpus=crew.gpus,
        compute=ray.data.ActorPoolStrategy(size=crew.workers),
    )


@contextmanager
def _executed(stop: StopRequest) -> Iterator[None]:
    """How data sets made in this block are executed.

    A block is what Ray gives to an actor, and to another one when that dies: it does not hold more than a shard. No bars. And a stop
    ends the execution, where Ray (2.60) takes callbacks.
    """
    from ray.data import DataContext

    context = DataContext.get_current()
    ours: dict[str, Any] = {"target_max_block_size": 1, "enable_progress_bars": False}
    if hasattr(context, _CALLBACKS):
        ours[_CALLBACKS] = [*getattr(context, _CALLBACKS), _Ending]
    before = {name: getattr(context, name) for name in ours}
    _Ending.stop = stop
    try:
        for name, value in ours.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


class _Ending:
    """An execution callback, which Ray Data makes without arguments for every execution."""

    stop: ClassVar[StopRequest | None] = None

    def on_execution_step(self, executor: Any) -> None:
        """Raises what ends the execution and arrives where its rows are drawn."""
        if self.stop is not None and self.stop.requested:
            raise StopAsked

    def before_execution_starts(self, executor: Any) -> None:
        """Nothing."""

    def after_execution_succeeds(self, executor: Any) -> None:
        """Nothing."""

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Nothing."""


def _everywhere(name: str) -> str:
    """A path as workers understand it, which run in another folder; URLs and hub ids stay."""
    return str(Path(name).absolute()) if not is_url(name) and Path(name).exists() else name


def _planned(item: Input, reading: dict[str, Any]) -> tuple[Plan, list[str]]:
    lines: list[str] = []
    return plan(item, reading, lines.append), lines


def _read(batch: Any, plans: Sequence[Plan], finished: frozenset[Place]) -> Iterator[Any]:
    """Runs on a worker: the shards of one input that are not finished."""
    import pyarrow as pa

    for i in batch["input"].to_pylist():
        for number, rows in plans[i].read({shard for own, shard in finished if own == i}):
            yield pa.table(
                {
                    "input": [i],
                    "shard": [number],
                    "ids": pa.array([rows.ids], pa.list_(pa.string())),
                    "texts": pa.array([rows.texts], pa.list_(pa.large_string())),
                }
            )


class _ScoringActor:
    """Runs on a worker: scores shards and stores them; the model is loaded with the first."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scorer: ShardScorer | None = None

    def __call__(self, batch: Any) -> Any:
        """A receipt for every shard in ``batch``."""
        import pyarrow as pa

        receipts = []
        for shard in batch.to_pylist():
            rows, tokens = Rows(shard["ids"], shard["texts"]), TokenCount()
            place = shard["input"], shard["shard"]
            scorer = self._loaded()
            answer = scorer.answer(scorer.read(rows), self._job.formats[place[0]], tokens)
            self._job.work.store(place, answer)
            receipts.append(
                {"input": place[0], "shard": place[1], "rows": len(rows.ids), "tokens": tokens.tokens}
            )
        return pa.Table.from_pylist(receipts)

    def _loaded(self) -> ShardScorer:
        # Not at the start: an error there would look like a worker that died.
        if self._scorer is None:
            from sortal.bulk.scoring import ShardScorer
            from sortal.classifier import load

            self._scorer = ShardScorer(load(self._job.model_dir, weights=self._job.weights))
        return self._scorer


@contextmanager
def _our_errors() -> Iterator[None]:
    """What a worker raised as itself, and what Ray raised as a sentence."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        ours = _cause(error)
        if ours is not None:
            raise ours from None
        raise ResourceError(
            f"Ray gave up: {_first_line(error)}", "see the logs in /tmp/ray/session_latest/logs of its nodes"
        ) from error


def _cause(error: BaseException | None) -> SortalError | None:
    while error is not None and not isinstance(error, SortalError):
        error = getattr(error, "cause", None) or error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
