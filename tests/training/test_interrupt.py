"""Stops that wait for the end of a step."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from spkd.training import interrupt
from spkd.training.interrupt import stop_between_steps

BOTH = (signal.SIGINT, signal.SIGTERM)


def handlers():
    return [signal.getsignal(number) for number in BOTH]


def test_the_first_ctrl_c_waits_and_the_second_interrupts_at_once():
    before = handlers()
    with pytest.raises(KeyboardInterrupt, match="SIGINT"), stop_between_steps() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGINT)
        assert stop and stop.name == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second stop waited too")
    assert handlers() == before


@pytest.mark.parametrize(("number", "again"), [
    (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT),
])  # fmt: skip
def test_the_parents_signal_right_behind_that_of_all_is_no_second_stop_and_a_later_one_is(number, again, monkeypatch):
    clock, waited = iter([10.0, 11.9, 12.1]), []
    monkeypatch.setattr(interrupt, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(KeyboardInterrupt, match=number.name), stop_between_steps() as stop:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), again)
        waited.append(stop.name)
        os.kill(os.getpid(), again)
        pytest.fail("the second stop waited too")
    assert waited == [number.name]


@pytest.mark.parametrize("number", BOTH)
def test_a_stop_that_the_last_step_outlives_is_heard_behind_it(number):
    before, done = handlers(), []
    with pytest.raises(KeyboardInterrupt, match=number.name), stop_between_steps():
        os.kill(os.getpid(), number)
        done.append("last step")
    assert done and handlers() == before


def test_a_failure_after_a_stop_stays_the_failure_that_it_is():
    with pytest.raises(ZeroDivisionError), stop_between_steps():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError


def test_a_thread_leaves_signals_alone():
    before, seen = handlers(), []

    def inside():
        with stop_between_steps() as stop:
            seen.append((bool(stop), handlers()))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
