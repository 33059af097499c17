"""A run inside someone else's program."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.errors import ConfigError, DataError, InputError, Interrupted, ModelError
from sortal.estimator.guards import numpy_random_kept, refusals, stops


@pytest.mark.parametrize("error", [DataError, ConfigError])
def test_refused_input_is_a_value_error_with_the_same_words(error):
    with pytest.raises(ValueError) as caught, refusals():
        raise error("what", "fix")
    assert isinstance(caught.value, InputError)
    assert (caught.value.what, caught.value.fix) == ("what", "fix")


def test_other_errors_stay_what_they_are():
    with pytest.raises(ModelError), refusals(), stops():
        raise ModelError("no such model")


@pytest.mark.parametrize(("number", "error"), [(2, KeyboardInterrupt), (15, SystemExit)])
def test_a_signal_is_no_failed_fit(number, error):
    with pytest.raises(error) as caught, stops():
        raise Interrupted("stopped", "resume", number)
    assert not isinstance(caught.value, Exception)
    if error is SystemExit:
        assert caught.value.code == 143


def test_the_global_generator_goes_on_as_if_nothing_had_drawn():
    np.random.seed(1)
    expected = np.random.rand(2)
    np.random.seed(1)
    first = np.random.rand()
    with numpy_random_kept():
        np.random.seed(99)
    assert [first, np.random.rand()] == expected.tolist()
