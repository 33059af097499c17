"""Who may ask: API keys, kept as digests and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from sortal.errors import ConfigError

SHORTEST = 16


@dataclass(frozen=True)
class Keys:
    """SHA-256 digests of the keys that are accepted; without any, everybody is."""

    digests: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.digests)

    @classmethod
    def read(cls, path: str) -> Keys:
        """The keys of a file, one a line; two of them let clients change over.

        Raises:
            ConfigError: it cannot be read, holds no key, or a key that is short or has spaces. The message never holds a key.
        """
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()
        except OSError as error:
            raise ConfigError(f"--api-key-file {path}: {error.strerror}", "give a readable file") from None
        except UnicodeDecodeError:
            raise ConfigError(
                f"--api-key-file {path}: a key may hold ASCII characters only", "make another"
            ) from None
        keys = {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}
        if not keys:
            raise ConfigError(f"--api-key-file {path} holds no key", "write one key a line")
        for number, key in keys.items():
            if len(key) < SHORTEST or not key.isprintable() or " " in key:
                raise ConfigError(
                    f"--api-key-file {path}, line {number}: a key needs at least {SHORTEST} characters and no spaces",
                    "make one with: openssl rand -hex 32",
                )
        return cls(tuple(_digest(key.encode("ascii")) for key in keys.values()))

    def accept(self, authorization: bytes | None) -> bool:
        """Whether the value of an Authorization header is ``Bearer`` with a known key. Takes as long for a wrong as for a right one."""
        if not self.digests:
            return True
        scheme, _, key = (authorization or b"").partition(b" ")
        given, known = _digest(key.strip()), False
        for digest in self.digests:  # all of them: which one fits must not show
            known |= hmac.compare_digest(given, digest)
        return known and scheme.lower() == b"bearer"


def check_address(host: str, keys: Keys) -> None:
    """Refuse to listen on an address that other machines reach unless there are keys.

    Raises:
        ConfigError: naming the host.
    """
    if keys or is_loopback(host):
        return
    raise ConfigError(
        f"--host {host} can be reached from other machines, and no key is asked for",
        "give --api-key-file, or listen on 127.0.0.1",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``; a name other than localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
