"""The six guarantees in seeded runs: whoever watches gets the store's history, whatever fails."""

from __future__ import annotations

import pytest

from tests.feed.scenario import Size, play

RUNS = 500


def play_all(seeds: range, size: Size) -> None:
    """Do many runs. Whichever fails names its seed: `play(seed, size)` repeats it exactly."""
    for seed in seeds:
        try:
            play(seed, size)
        except Exception as error:
            raise AssertionError(f"seed {seed} with {size}: {error}") from error


@pytest.mark.parametrize("first", range(0, 6 * RUNS, RUNS))
def test_P9_watchers_receive_exactly_the_history_whatever_fails(first: int) -> None:
    play_all(range(first, first + RUNS), Size())


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_P9_watchers_receive_exactly_long_histories_whatever_fails() -> None:
    play_all(range(100_000, 115_000), Size())
    play_all(range(200_000, 203_000), Size(transactions=120, watchers=6))


def test_P9_a_seed_reproduces_its_run_exactly() -> None:
    for seed in range(20):
        assert play(seed, Size()) == play(seed, Size())
