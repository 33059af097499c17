from __future__ import annotations

import datasets
import pytest

from sortal.data.files import find_files
from sortal.data.hub import looks_like_hub_id
from sortal.data.reading import read
from sortal.errors import DataError, ResourceError


@pytest.fixture
def emotions():
    features = datasets.Features(
        text=datasets.Value("string"),
        labels=datasets.Sequence(datasets.ClassLabel(names=["joy", "anger", "fear"])),
    )
    train = datasets.Dataset.from_dict(
        {"text": ["a", "b", "c"], "labels": [[2, 0], [], [1]]}, features=features
    )
    test = datasets.Dataset.from_dict({"text": ["d"], "labels": [[1]]}, features=features)
    return datasets.DatasetDict(train=train, validation=train, test=test)


def test_hub_id_gives_names_in_class_label_order(monkeypatch, heard, emotions):
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names: asked.append(names) or emotions)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    data = read("owner/emotions:simplified", say=heard)
    assert asked == [("owner/emotions", "simplified")]
    assert data.labels == [("fear", "joy"), (), ("anger",)]
    assert data.label_names == ("joy", "anger", "fear")
    assert data.task == "multi"
    assert read("owner/emotions#test", say=heard).texts == ["d"]
    with pytest.raises(DataError, match="no split 'tset'; did you mean 'test'"):
        read("owner/emotions#tset", say=heard)


def test_saved_dataset_folder_and_its_splits(tmp_path, heard, emotions):
    emotions.save_to_disk(str(tmp_path / "saved"))
    parts = find_files(tmp_path / "saved")
    assert list(parts) == ["train", "dev", "test"]
    assert read(parts["test"], say=heard).labels == [("anger",)]
    assert len(read(tmp_path / "saved", say=heard)) == 3


def test_no_network_is_one_clear_sentence(monkeypatch, heard):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ResourceError, match="the hub cannot be reached"):
        read("owner/some_reviews", say=heard)


def test_unreachable_hub_does_not_leave_offline_mode_behind(monkeypatch, heard):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: type("S", (), {"head": unreachable})())
    with pytest.raises(ResourceError):
        read("owner/some_reviews", say=heard)
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False
    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("source", ["ag_news", "owner/name", "owner/name:config#test"])
def test_hub_ids_are_recognised(source):
    assert looks_like_hub_id(source)


@pytest.mark.parametrize("source", ["/abs/path", "../up", "a/b/c", "-", "with space"])
def test_paths_are_not_hub_ids(source):
    assert not looks_like_hub_id(source)
