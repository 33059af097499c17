"""F2: a signal asks the loop to stop; it never tears a step apart."""

import signal
import threading

import pytest

from sortal.training.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks_f2(number):
    with StopRequest() as stop:
        assert not stop.requested
        assert stop.signal_number is None
        signal.raise_signal(number)
        assert stop.requested
        assert stop.signal_number == number


def test_a_second_interrupt_stops_at_once():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.requested


def test_a_second_termination_changes_nothing():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal_number == signal.SIGINT


def test_the_earlier_handlers_come_back_also_after_an_error():
    def mine(_number, _frame):
        pass

    before = signal.signal(signal.SIGTERM, mine), signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(ValueError), StopRequest():
            raise ValueError
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == (mine, before[1])
    finally:
        signal.signal(signal.SIGTERM, before[0])


def test_outside_the_main_thread_it_does_nothing():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with StopRequest() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
