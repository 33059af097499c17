"""Files of paths and of URLs."""

from __future__ import annotations

import pytest

from sortal.bulk.storage import is_url, join, local_copy, storage
from sortal.errors import DataError, ResourceError


@pytest.fixture(params=["path", "file", "memory"])
def place(request, tmp_path) -> str:
    return {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{tmp_path.name}"}[
        request.param
    ]


def test_what_is_written_is_read_listed_and_deleted(place):
    store = storage(place)
    store.write(join(place, "a/b.bin"), b"one")
    store.write(join(place, "a/b.bin"), b"two")
    store.write(join(place, "a/c/d.bin"), b"three")
    assert store.read(join(place, "a/b.bin")) == b"two"
    assert store.files(join(place, "a")) == ["b.bin", "c/d.bin"]
    assert "b.bin" in store.names(join(place, "a"))
    assert store.names(join(place, "nowhere")) == set()
    assert store.is_folder(join(place, "a"))
    assert not store.is_folder(join(place, "a/b.bin"))
    store.delete(join(place, "a/b.bin"))
    assert not store.exists(join(place, "a/b.bin"))
    store.delete(join(place, "a"))
    store.delete(join(place, "a"))
    assert not store.exists(join(place, "a"))


def test_a_file_appears_when_it_is_complete_or_not_at_all(place):
    store, name = storage(place), join(place, "f/p.csv")
    with store.appearing(name) as file:
        file.write(b"half ")
        assert not store.exists(name)
        file.write(b"whole")
    assert store.read(name) == b"half whole"
    with pytest.raises(ZeroDivisionError), store.appearing(name) as file:
        file.write(b"half" * (1 // 0))
    assert store.read(name) == b"half whole"
    assert store.files(join(place, "f")) == ["p.csv"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    name = str(tmp_path / "file" / "p.csv")
    with pytest.raises(ResourceError, match="file cannot be made"), storage(name).appearing(name):
        pass


def test_what_a_killed_process_left_goes_when_the_file_is_written(tmp_path):
    (tmp_path / ".p.csv.tmp-123-0123abcd").write_text("half")
    (tmp_path / ".q.csv.tmp-123-0123abcd").write_text("of another file")
    with storage(str(tmp_path)).appearing(str(tmp_path / "p.csv")) as file:
        file.write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".q.csv.tmp-123-0123abcd", "p.csv"]


def test_a_url_is_copied_for_the_readers_and_the_copy_goes(place):
    name = join(place, "d.csv")
    storage(place).write(name, b"text\na\n")
    with local_copy(name) as copy:
        with open(copy, "rb") as file:  # noqa: PTH123 - a path or a string
            assert file.read() == b"text\na\n"
        path = str(copy)
        assert path.endswith("d.csv")
    if is_url(name):
        assert not storage(path).exists(path)


def test_what_is_not_there_is_said(tmp_path):
    with (
        pytest.raises(DataError, match=r"file://.*/none\.csv does not exist"),
        local_copy(f"file://{tmp_path}/none.csv"),
    ):
        pass
    with pytest.raises(DataError, match="nowhere://x is no place that can be read"):
        storage("nowhere://x/y").exists("nowhere://x/y")
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"file/p\.csv"):
        storage("file://").write(f"file://{tmp_path}/file/p.csv", b"")
