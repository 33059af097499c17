"""``sortal.serve``: checks everything that can be checked at once, then starts the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sortal.errors import ConfigError
from sortal.serving.keys import Keys, check_address
from sortal.serving.settings import Limits, model_folders, require_packages


def serve(
    models: str | Path | Sequence[str | Path],
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key_file: str | None = None,
    drain_seconds: float = 30.0,
    **limits: Any,
) -> None:
    """Answer HTTP requests with saved classifiers until SIGTERM or SIGINT; then answer what was accepted, and return.

    Args:
        models: a model folder, or several as ``NAME=DIR``.
        name: what a single one is called; default: its folder, or its run.
        host: address to listen on; one that other machines reach needs ``api_key_file``.
        port: 0 takes a free one, which the log names.
        api_key_file: file with one key a line; requests then need ``Authorization: Bearer KEY``.
        drain_seconds: how long a signal waits for answers.
        limits: fields of `sortal.serving.settings.Limits`.

    Raises:
        MissingDependencyError: the extra ``serve`` is not installed.
        ConfigError: settings that cannot work. ModelError: a folder that cannot be used.
        ResourceError: the port is taken, or requests were left unanswered.
        Interrupted: a second signal did not wait for the answers.
    """
    require_packages()
    given = [models] if isinstance(models, str | Path) else models
    folders = model_folders([str(word) for word in given], name)
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must lie between 0 and 65535, got {port}", "8000 is a usual one")
    if not 0 <= drain_seconds <= 3600:
        raise ConfigError(
            f"--drain-seconds must lie between 0 and 3,600, got {drain_seconds:g}", "30 is a usual value"
        )
    checked = Limits(**{key: value for key, value in limits.items() if value is not None})
    keys = Keys() if api_key_file is None else Keys.read(api_key_file)
    check_address(host, keys)
    from sortal.serving.server import run_server

    run_server(folders, host=host, port=port, keys=keys, limits=checked, drain_seconds=drain_seconds)
