from __future__ import annotations

import math

import pytest
import torch

from sortal.training import forecast
from sortal.training.forecast import Forecast, computed_tokens, duration, foresee, matrix_flops, seconds_of

CPU = torch.device("cpu")


@pytest.fixture
def rate(monkeypatch):
    monkeypatch.setattr(forecast, "matrix_flops", lambda device, dtype: 1e11)
    monkeypatch.setattr(forecast, "memory_rate", lambda: 1e10)


def test_time_is_work_by_the_share_of_the_rate_that_steps_reach(rate):
    found = foresee(2e13, 100, 2.0, 5000, CPU, torch.float32)
    assert (found.least, found.most) == (pytest.approx(200 / 0.7), pytest.approx(200 / 0.4))
    assert found.least < found.seconds < found.most
    assert found.tokens_per_second == pytest.approx(2 * 5000 / found.seconds)
    assert found.worth_saying


def test_updates_of_many_parameters_take_their_time_however_few_tokens_a_step_has(rate):
    few, many = (
        foresee(2e13, steps, 2.0, 5000, CPU, torch.float32, trained=20_000_000) for steps in (100, 1000)
    )
    plain = foresee(2e13, 100, 2.0, 5000, CPU, torch.float32)
    each = 20e6 * 60 / 1e10  # seconds of a step
    assert few.seconds == pytest.approx(plain.seconds + 100 * each)
    assert many.seconds == pytest.approx(plain.seconds + 1000 * each)
    assert (few.least, few.most) == (
        pytest.approx(plain.least + 100 * each / 1.5),
        pytest.approx(plain.most + 100 * each * 1.5),
    )
    assert forecast.update_seconds(100, 20_000_000, torch.device("cuda")) == 0


def test_a_tile_unit_is_reached_less_than_other_processors(rate, monkeypatch):
    def likely(dtype, tiles):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
        return foresee(2e13, 100, 2.0, 5000, CPU, dtype).seconds

    assert likely(torch.bfloat16, True) > 1.5 * likely(torch.bfloat16, False)
    assert likely(torch.float32, True) == likely(torch.float32, False)


def test_a_run_of_seconds_measures_nothing(monkeypatch):
    monkeypatch.setattr(forecast, "matrix_flops", lambda device, dtype: pytest.fail("measured"))
    monkeypatch.setattr(forecast, "memory_rate", lambda: pytest.fail("measured"))
    assert foresee(1e9, 3, 1.0, 100, CPU, torch.float32, trained=10_000_000) is None


def test_a_time_budget_bounds_what_is_foreseen(rate):
    found = foresee(2e13, 100, 2.0, 5000, CPU, torch.float32, at_most=60.0)
    assert (found.least, found.seconds, found.most) == (60, 60, 60)
    whole = foresee(2e13, 100, 2.0, 5000, CPU, torch.float32)
    assert found.tokens_per_second == whole.tokens_per_second
    assert found.beside(66.0, 20)["used_of_foreseen"] == pytest.approx(1.1), "the budget was to end it"


def test_the_line_says_time_tokens_and_rate():
    line = Forecast(30, 3.0, 12_000, 240.0, 200.0, 330.0, 150.0).line("preset fast")
    assert line.startswith(
        "preset fast: about 4 min of training, 3 min to 6 min (12,000 real tokens per epoch × 3 at about 150 tokens/s"
    )


def test_early_stopping_is_held_against_the_steps_that_were_taken():
    found = Forecast(30, 3.0, 12_000, 240.0, 200.0, 330.0, 150.0).beside(100.0, 10)
    assert (found["foreseen_seconds"], found["used_seconds"], found["used_steps"]) == (240, 100, 10)
    assert found["used_of_foreseen"] == pytest.approx(1.25)


def test_a_prompt_counts_once_for_every_microbatch():
    assert computed_tokens(1000, 100, 10, 0, 50) == 1000
    assert computed_tokens(1000, 100, 10, 7, 100) == 1000 + 10 * 7
    assert computed_tokens(1000, 100, 10, 7, 40) == 1000 + 10 * 3 * 7


def test_the_measured_rate_is_a_possible_one():
    found = matrix_flops(CPU, torch.float32)
    assert 1e8 < found < 1e14
    least, likely, most = seconds_of(found, found, CPU, torch.float32)
    assert (least, most) == (pytest.approx(1 / 0.7), pytest.approx(1 / 0.4))
    assert likely == pytest.approx(math.sqrt(least * most))


@pytest.mark.parametrize(("seconds", "words"), [(7, "7 s"), (99, "99 s"), (240, "4 min"), (9000, "2.5 h")])
def test_durations_are_rounded_to_what_is_known(seconds, words):
    assert duration(seconds) == words
