"""How many workers a cluster gets."""

from __future__ import annotations

import pytest

from sortal.bulk.workers import Crew, crew
from sortal.errors import ResourceError


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"CPU": 2}], None, Crew(1, 2, 0)),
        ([{"CPU": 2}], 2, Crew(2, 1, 0)),
        ([{"CPU": 16}], None, Crew(4, 4, 0)),
        ([{"CPU": 16}, {"CPU": 6}], None, Crew(5, 4, 0)),
        ([{"CPU": 16}], 5, Crew(5, 3, 0)),
        ([{"CPU": 3}, {"CPU": 3}], 4, Crew(4, 1, 0)),
        ([{"CPU": 16, "GPU": 2}, {"CPU": 8}], None, Crew(2, 1, 1)),
        ([{"CPU": 16, "GPU": 2}], 1, Crew(1, 1, 1)),
    ],
)
def test_a_worker_has_a_gpu_or_up_to_four_cores(nodes, workers, expected):
    assert crew(nodes, workers) == expected


@pytest.mark.parametrize(
    ("nodes", "workers", "has"),
    [
        ([{"CPU": 2}], 3, "it has 2 cores"),
        ([{"CPU": 64, "GPU": 1}], 2, "it has 1 GPUs"),
        ([{}], None, "0 cores"),
    ],
)
def test_more_than_there_is_room_for_is_refused(nodes, workers, has):
    with pytest.raises(ResourceError, match=has):
        crew(nodes, workers)
