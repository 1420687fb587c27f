"""Waiting for a server that went away."""

from __future__ import annotations

import threading
import time

import pytest

import sessiond
from sessiond.cli.patience import GaveUp, Patience, Stopped


class Flaky:
    """Work that fails a number of times."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_it_repeats_what_failed_in_passing_and_says_so_once() -> None:
    told: list[Exception] = []
    patience = Patience(30, told.append)
    patience.call(Flaky())
    flaky = Flaky(sessiond.Unavailable(), sessiond.Overloaded(), sessiond.DeadlineExceeded())
    assert patience.call(flaky) == "done"
    assert len(told) == 1


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    with pytest.raises(sessiond.Unavailable):
        Patience(30, lambda error: None).call(Flaky(sessiond.Unavailable()))


def test_it_gives_up_in_time_with_the_last_error_as_the_cause() -> None:
    patience = Patience(0.3, lambda error: None)
    patience.call(Flaky())
    began = time.monotonic()
    with pytest.raises(GaveUp) as caught:
        patience.call(Flaky(*[sessiond.Unavailable("away")] * 100))
    assert isinstance(caught.value.__cause__, sessiond.Unavailable)
    assert time.monotonic() - began >= 0.3


def test_a_refusal_is_not_repeated() -> None:
    patience = Patience(30, lambda error: None)
    with pytest.raises(sessiond.SessionNotFound):
        patience.call(Flaky(sessiond.SessionNotFound()))


def test_it_can_be_stopped_while_it_waits() -> None:
    patience = Patience(30, lambda error: None)
    patience.call(Flaky())
    threading.Timer(0.2, patience.stop).start()
    with pytest.raises(Stopped):
        patience.call(Flaky(*[sessiond.Unavailable()] * 100))
    with pytest.raises(Stopped):
        patience.call(Flaky())
