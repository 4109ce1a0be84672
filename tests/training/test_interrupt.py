"""Stops that wait for the end of a step."""

import os
import signal
import threading

import pytest

from spkd.training.interrupt import stop_between_steps

BOTH = (signal.SIGINT, signal.SIGTERM)


def handlers():
    return [signal.getsignal(number) for number in BOTH]


@pytest.mark.parametrize("number", BOTH)
def test_the_first_stop_waits_and_the_second_interrupts_at_once(number):
    before = handlers()
    with pytest.raises(KeyboardInterrupt, match=number.name), stop_between_steps() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop and stop.name == number.name
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the second stop waited too")
    assert handlers() == before


def test_a_thread_leaves_signals_alone():
    before, seen = handlers(), []

    def inside():
        with stop_between_steps() as stop:
            seen.append((bool(stop), handlers()))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
