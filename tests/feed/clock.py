"""An event loop whose time is virtual: when nobody has anything to do, it is the next timer's time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


MOST_TURNS = 20_000
"""So many turns of the loop in one moment are taken for an endless loop."""


class Stuck(AssertionError):
    """Everybody waits and no timer is left that could end it, or work goes on for ever in one moment."""


class _Selector:
    """Waits by moving the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stuck("everybody waits for ever")
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns == MOST_TURNS:
            raise Stuck("no end of work in one moment")
        self.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Does no input or output. `tasks` are all that were ever made."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector()
        self.tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._selector.now

    def _make_task(
        self,
        _: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=self, **options)
        self.tasks.append(task)
        return task

    def _process_events(self, _: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run(seed: int, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run to the end on a virtual clock, with `random` seeded. No task may outlive it or have failed."""
    state = random.getstate()
    random.seed(seed)
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(main())
        for task in loop.tasks:
            assert task.done(), f"left behind: {task!r}"
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return result
    finally:
        _cancel_all(loop)
        loop.close()
        random.setstate(state)


def _cancel_all(loop: VirtualLoop) -> None:
    left = [task for task in loop.tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=60))
    for task in loop.tasks:
        if task.done() and not task.cancelled():
            task.exception()  # whoever failed first was raised
