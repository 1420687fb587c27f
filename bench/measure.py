"""Ratios: two loads measured in turn, several times, so that what the machine does else hits both."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Step = Callable[[int], Awaitable[int]]
"""One step of worker number n; how many messages it moved."""


@dataclass(slots=True)
class Ratio:
    """A named ratio with its spread over the rounds. `target` is what it should reach, or stay below, if it
    should either."""

    name: str
    what: str
    target: float | None
    at_most: bool = False
    values: list[float] = field(default_factory=list)
    scale: str = ""
    """Absolute figures of the last round, for scale only."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.median <= self.target if self.at_most else self.median >= self.target

    def as_json(self) -> dict[str, object]:
        return {
            "what": self.what,
            "target": self.target,
            "at_most": self.at_most,
            "min": round(min(self.values), 3),
            "median": round(self.median, 3),
            "max": round(max(self.values), 3),
            "rounds": [round(value, 3) for value in self.values],
            "scale": self.scale,
        }


async def throughput(step: Step, workers: int, seconds: float) -> float:
    """Messages per second of so many workers that step one after the other."""
    moved = 0
    start = time.perf_counter()
    end = start + seconds

    async def work(number: int) -> None:
        nonlocal moved
        while time.perf_counter() < end:
            count = await step(number)  # apart: += would read the sum before it waits
            moved += count

    await asyncio.gather(*(work(number) for number in range(workers)))
    return moved / (time.perf_counter() - start)


async def compare(
    ratio: Ratio, load: Step, baseline: Step, *, workers: int, rounds: int, seconds: float
) -> Ratio:
    """Fill a ratio of throughputs: load over baseline."""
    for step in (load, baseline):
        await throughput(step, workers, seconds / 4)
    for _ in range(rounds):
        theirs = await throughput(baseline, workers, seconds)
        ours = await throughput(load, workers, seconds)
        ratio.values.append(ours / theirs)
        ratio.scale = f"{ours:,.0f} and {theirs:,.0f} messages/s"
    return ratio


async def median_latency(call: Callable[[], Awaitable[object]], times: int) -> float:
    """The p50 of so many calls, one after the other, in seconds."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        await call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


async def compare_latency(
    ratio: Ratio,
    large: Callable[[], Awaitable[object]],
    small: Callable[[], Awaitable[object]],
    *,
    rounds: int,
    times: int,
) -> Ratio:
    """Fill a ratio of p50s: large over small."""
    for call in (large, small):
        await median_latency(call, times // 4 + 1)
    for _ in range(rounds):
        base = await median_latency(small, times)
        ours = await median_latency(large, times)
        ratio.values.append(ours / base)
        ratio.scale = f"{ours * 1000:.2f} and {base * 1000:.2f} ms"
    return ratio
