"""What went wrong on a worker, as the driver says it."""

from __future__ import annotations

import pytest

from sortal.errors import DataError, ResourceError

ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "sortal[ray]"')


def test_an_error_of_ours_on_a_worker_is_itself():
    from ray.exceptions import RayTaskError

    from sortal.bulk.ray_engine import _our_errors

    ours = DataError("d.csv, row 7: no text", "add one")
    wrapped = RuntimeError("in the function of a user")
    wrapped.__cause__ = ours
    for cause in (ours, wrapped):
        with pytest.raises(DataError) as raised, _our_errors():
            raise RayTaskError("read", "Traceback …", cause)
        assert raised.value is ours


def test_an_error_of_ray_is_a_sentence():
    from ray.exceptions import RayTaskError

    from sortal.bulk.ray_engine import _our_errors

    with pytest.raises(ResourceError, match="Ray gave up: ") as raised, _our_errors():
        raise RayTaskError("read", "Traceback …", ValueError("x"))
    assert "\n" not in raised.value.what


def test_workers_get_paths_that_do_not_depend_on_their_folder(tmp_path, monkeypatch):
    from sortal.bulk.ray_engine import _everywhere

    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").touch()
    assert _everywhere("d.csv") == str(tmp_path / "d.csv")
    assert [_everywhere(name) for name in ("s3://b/d.csv", "owner/data")] == ["s3://b/d.csv", "owner/data"]
