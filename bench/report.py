"""What a run leaves behind: lines on the terminal, results.json, a page with a table and a chart."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import matplotlib as mpl

from bench.measure import Ratio

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results.json"
DOCS = ROOT / "docs" / "benchmarks"

_PAGE = """\
# Benchmarks

`make bench` measures these ratios. Each is of two loads measured in turn in one run, {rounds} times, so that
what else the machine does hits both; the median counts, the spread shows how quiet the machine was. Absolute
figures depend on the machine and are given for scale alone. Messages are 500 bytes, the client, the servers
and Postgres (with fsync) share one machine, and the client runs in a process of its own.

| ratio | what | target | min | median | max | for scale |
|---|---|---|---|---|---|---|
{rows}

![The ratios against their targets](ratios.svg)

The echo is a bare RPC that gives back the bytes it gets, in the same kind of server process
(`bench/echo.py`). "Direct" is asyncpg writing the same rows into copies of the same tables with the same
indexes, in the same batches (`bench/loads.py`). AppendStream goes through the client library, unary appends
through the bare stub. The sessions of a million messages are filled by SQL (`bench/flat.py`), and so are the
100,000 sessions of the lists (`bench/lists.py`). Watchers run in
a process of their own (`bench/watchers.py`); the bare stream sends frames of the same size; the other replica
is a second server on the same Postgres (`bench/feeds.py`). These servers run without search. What
indexing takes from appends is measured by itself, on a server that is behind with indexing all the time, and
searches go over 1,000,000 messages made from real conversations (`bench/search.py`).
Offloaded bytes are those of tables, indexes and TOAST, beside those of the hot messages with theirs; search
entries, which stay, are apart (`bench/offload.py`).

`make bench ARGS="--against REF"` compares this tree with a git ref instead (`bench/against.py`), and writes
nothing: what a message of an append, a page and a context take, this tree / REF, on the clock and in
processor time of the server, of its database's backends in Postgres and of the client. Each side runs its
own server, client and loads, on a database of its own in the same Postgres; both run at the same time, so
that what else the machine does hits both, and start anew three times. The median counts; processor time is
steadier than the clock. `--only page` measures one load.

What isn't reached, and where its time goes: [profile](profile.md).
"""


def _target(ratio: Ratio) -> str:
    if ratio.target is None:
        return "–"
    return f"{'≤' if ratio.at_most else '≥'} {ratio.target:g}"


def line(ratio: Ratio) -> None:
    """One ratio, for the terminal."""
    spread = f"{min(ratio.values):.2f} … {ratio.median:.2f} … {max(ratio.values):.2f}"
    mark = "ok" if ratio.met else "MISSED"
    print(f"{ratio.name:22} {spread:24} {_target(ratio):8} {mark:7} {ratio.scale}", flush=True)


def write(ratios: list[Ratio], rounds: int, seconds: float) -> None:
    """The files of a full run."""
    results = {
        "machine": {"system": platform.system(), "python": platform.python_version()},
        "rounds": rounds,
        "seconds": seconds,
        "ratios": {ratio.name: ratio.as_json() for ratio in ratios},
    }
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    DOCS.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(
        f"| `{r.name}` | {r.what} | {_target(r)} | {min(r.values):.2f} | **{r.median:.2f}** |"
        f" {max(r.values):.2f} | {r.scale} |"
        for r in ratios
    )
    (DOCS / "README.md").write_text(_PAGE.format(rows=rows, rounds=rounds), encoding="utf-8")
    _chart(ratios)


def _times_target(ratio: Ratio, value: float) -> float:
    assert ratio.target is not None
    return ratio.target / value if ratio.at_most else value / ratio.target


def _chart(ratios: list[Ratio]) -> None:
    """Each ratio by its target, so that all fit one scale: right of the line is met."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sessiond"  # the same figures draw the same file
    from matplotlib import pyplot  # after the backend is chosen

    ratios = [ratio for ratio in ratios if ratio.target is not None]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(ratios) + 1.2))
    for place, ratio in enumerate(reversed(ratios)):
        values = [_times_target(ratio, value) for value in ratio.values]
        middle = sorted(values)[len(values) // 2]
        axes.barh(place, middle, color="#3b6ea5" if ratio.met else "#b5523b", height=0.6)
        axes.plot([min(values), max(values)], [place, place], color="#222222", linewidth=1.5)
    axes.axvline(1, color="#222222", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(ratios)), [ratio.name for ratio in reversed(ratios)])
    axes.set_xlabel("times the target (right of the line is better); line: spread over the rounds")
    figure.tight_layout()
    figure.savefig(DOCS / "ratios.svg", metadata={"Date": None})
    pyplot.close(figure)
