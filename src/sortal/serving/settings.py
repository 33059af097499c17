"""What a server is started with, checked before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sortal.errors import ConfigError, MissingDependencyError
from sortal.model_weights import check_weights

PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus_client": "prometheus-client"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


@dataclass(frozen=True)
class Limits:
    """How much is accepted and how it is batched.

    max_queue: texts accepted and not answered yet; past it 429. max_batch_tokens: tokens scored together; None takes what one
    forward of the model holds, on a CPU 1,024 at most. max_latency_ms: how long a text waits for others while the models are idle.
    max_texts: of one request. max_body_bytes: of one request's body. body_seconds: how long a client may take to send it.
    weights: how the models' weights are held, as of `sortal.load`.

    Raises:
        ConfigError: values that cannot work.
    """

    max_queue: int = 1024
    max_batch_tokens: int | None = None
    max_latency_ms: float = 5.0
    max_texts: int = 128
    max_body_bytes: int = 2 << 20
    body_seconds: float = 30.0
    weights: str = "saved"

    def __post_init__(self) -> None:
        check_weights(self.weights)
        for name in ("max_queue", "max_batch_tokens", "max_texts", "max_body_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{_flag(name)} must be at least 1, got {value}", "give a larger one")
        if not 0 <= self.max_latency_ms <= 60_000:
            raise ConfigError(
                f"--max-latency-ms must lie between 0 and 60,000, got {self.max_latency_ms:g}",
                "5 is a usual value",
            )

    @property
    def texts_of_a_request(self) -> int:
        """``max_texts``, or ``max_queue`` where that is less: a request with more could never be accepted."""
        return min(self.max_texts, self.max_queue)


def model_folders(models: Sequence[str], name: str | None = None) -> dict[str, Path]:
    """``DIR`` or ``NAME=DIR`` words as name to folder; a folder called ``model`` is named after the run it is in.

    Args:
        name: of the model, where there is one ``DIR`` only.

    Raises:
        ConfigError: no folder, a name that cannot be used, or one used twice.
    """
    if not models:
        raise ConfigError("no model folder is given", "write sortal serve MODEL_DIR")
    if name is not None and len(models) > 1:
        raise ConfigError("--name is for one model folder", "write NAME=DIR for each of several")
    found: dict[str, Path] = {}
    for word in models:
        given, separator, rest = word.partition("=")
        # A folder may have the sign in its own name.
        named = bool(separator) and not Path(word).exists()
        if named and name is not None:
            raise ConfigError(f"{word} has a name, and --name gives another", "leave one of them out")
        folder = Path(rest if named else word)
        called = name or (given if named else _own_name(folder))
        if not _NAME.fullmatch(called):
            raise ConfigError(
                f"{called!r} cannot be the name of a model",
                "use letters, digits and . _ / -, up to 100: NAME=DIR",
            )
        if called in found:
            raise ConfigError(f"two models are called {called}", "give them names: NAME=DIR")
        found[called] = folder
    return found


def require_packages() -> None:
    """Refuse to start without the libraries of the server.

    Raises:
        MissingDependencyError: with the command that installs them.
    """
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f"sortal serve needs {', '.join(missing)}", 'pip install "sortal[serve]"'
        )


def _own_name(folder: Path) -> str:
    whole = folder.resolve()
    name = whole.parent.name if whole.name == "model" else whole.name
    return name.lstrip(".")  # of a hidden folder, as `make demo` writes one


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
