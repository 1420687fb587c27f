"""`make bench`: the ratios that sessiond promises, measured side by side in one run.

    python -m bench [--quick] [--only NAME ...] [--against REF]

Writes bench/results.json, and docs/benchmarks/ with a table and a chart. With --against it compares this tree
with a git ref instead, and writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass

from bench import against, feeds, flat, lists, offload, report, search, settling
from bench.loads import USAGE, Direct, Echo, Service
from bench.measure import Ratio, compare
from bench.processes import servers

_CALLERS = 64
_HOT = 32
_BATCHERS = 8


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: float
    latency_calls: int


FULL = Effort(rounds=5, seconds=3, latency_calls=300)
QUICK = Effort(rounds=3, seconds=1.5, latency_calls=60)


async def _run(effort: Effort, only: set[str]) -> list[Ratio]:
    with servers() as (dsn, service_address, echo_address):
        service, echo = Service(service_address), Echo(echo_address)
        await service.make_sessions(1000)
        found = await _throughputs(effort, only, service, echo, dsn)
        if not only or any(name.startswith("flat") for name in only):
            await flat.prepare(service, dsn)
            for ratio in await flat.ratios(service, effort.rounds, effort.latency_calls):
                report.line(ratio)
                found.append(ratio)
        if not only or "list_order_vs_none" in only:
            settled = await settling.ratio(dsn, effort.rounds, effort.seconds)
            report.line(settled)
            found.append(settled)
        if not only or any(name.startswith("list_") for name in only - {"list_order_vs_none"}):
            await lists.prepare(service, dsn)
            async for ratio in lists.ratios(service, effort.rounds, effort.latency_calls):
                report.line(ratio)
                found.append(ratio)
        for ratio in await _feeds(effort, only, service, dsn, service_address, echo_address):
            report.line(ratio)
            found.append(ratio)
        if not only or any(name.startswith("offloaded") for name in only):
            for ratio in await offload.ratios(dsn, effort.rounds, effort.latency_calls):
                report.line(ratio)
                found.append(ratio)
        await service.close()
        await echo.close()
    if not only or any("search" in name or "indexing" in name for name in only):
        found += await search.ratios(effort.rounds, effort.seconds, effort.latency_calls)
    return found


async def _throughputs(
    effort: Effort, only: set[str], service: Service, echo: Echo, dsn: str
) -> list[Ratio]:
    direct = await Direct.connect(dsn, _HOT)
    async with service.client.append_stream() as stream:
        pipelined = service.pipelined(stream)
        hot = service.pipelined(stream, hot=True)
        loads = (
            (
                Ratio(
                    "unary_vs_echo",
                    "append of 1 message, 64 callers / echo of the same bytes",
                    0.65,
                ),
                (service.unary(1), echo.unary(1), _CALLERS),
            ),
            (
                Ratio(
                    "turns_vs_echo",
                    "append of 4 messages, 64 sessions / echo of the same bytes",
                    0.65,
                ),
                (service.unary(4), echo.unary(4), _CALLERS),
            ),
            (
                Ratio("stream_vs_unary", "AppendStream, 64 sessions / unary append, 64 callers", 3),
                (pipelined, service.unary(1), _CALLERS),
            ),
            (
                Ratio(
                    "batch_vs_direct",
                    "append of 100, 8 callers / asyncpg inserts of the same rows",
                    0.5,
                ),
                (service.unary(100), direct.batches(100), _BATCHERS),
            ),
            (
                Ratio(
                    "usage_vs_none",
                    "append of 4 messages with what the turn used, 64 sessions / without",
                    0.5,
                ),
                (service.unary(4, usage=USAGE), service.unary(4), _CALLERS),
            ),
            (
                Ratio(
                    "hot_session_vs_direct",
                    "32 writers on one session by AppendStream / 32 tasks of one-statement appends",
                    2,
                ),
                (hot, direct.append_hot, _HOT),
            ),
        )
        found = []
        for ratio, (load, baseline, workers) in loads:
            if only and ratio.name not in only:
                continue
            await compare(
                ratio,
                load,
                baseline,
                workers=workers,
                rounds=effort.rounds,
                seconds=effort.seconds,
            )
            report.line(ratio)
            found.append(ratio)
    await direct.close()
    return found


async def _feeds(
    effort: Effort, only: set[str], service: Service, dsn: str, address: str, echo_address: str
) -> list[Ratio]:
    def wanted(name: str) -> bool:
        return not only or name in only

    found = []
    if wanted("idle_watchers"):
        found.append(await feeds.idle(service, address, effort.rounds, effort.seconds))
    if wanted("fan_out_vs_stream"):
        found.append(await feeds.fan_out(service, address, echo_address, effort.rounds))
    if wanted("delivery_vs_append"):
        found.append(await feeds.other_replica(service, dsn, effort.latency_calls))
    if wanted("idle_watcher_kib"):
        found.append(await feeds.memory(service, dsn))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the ratios.")
    parser.add_argument("--quick", action="store_true", help="shorter, and nothing is written")
    parser.add_argument("--only", action="append", default=[], help="only the ratio of this name")
    parser.add_argument("--against", metavar="REF", help="compare this tree with a git ref instead")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    if arguments.against is not None:
        try:
            against.run(arguments.against, arguments.only, 2 * effort.rounds * effort.seconds)
        except ValueError as error:
            parser.error(str(error))
        return 0
    found = asyncio.run(_run(effort, set(arguments.only)))
    if not arguments.quick and not arguments.only:
        report.write(found, effort.rounds, effort.seconds)
    missed = [ratio.name for ratio in found if not ratio.met]
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
