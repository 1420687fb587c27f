"""The machine of session streams on a store in memory: random histories, slow readers, small tails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import pytest

from sessiond_server.feed import session_tails
from sessiond_server.feed.session_stream import Listed, SessionStream, Standing
from sessiond_server.feed.session_tails import Entry, Page, Tails
from sessiond_server.sessions.filters import SessionFilter

Result = TypeVar("Result")
TENANT = "t"
PAGE = 5


@dataclass
class Stored:
    """A session, or what is left of it. A position is given later than what it is about."""

    position: int
    session_id: str
    incarnation: UUID
    owner: str
    version: int = 1
    unsettled: bool = True
    delete_time: datetime | None = None
    source: str = ""
    agent: str = ""
    parent_id: str | None = None
    parent_kind: int = 0

    def seen(self) -> Entry:
        alive = "" if self.delete_time else self.version
        facts = Stored(**{name: getattr(self, name) for name in self.__dataclass_fields__})
        return Entry(facts, f"{self.session_id}={alive};".encode())


@dataclass
class Store:
    """Sessions of two owners, which change, and are settled now and then."""

    chance: random.Random
    rows: list[Stored] = field(default_factory=list)
    position: int = 0
    made: int = 0

    def change(self) -> None:
        alive = [it for it in self.rows if it.delete_time is None]
        kind = self.chance.choices(("make", "change", "delete"), (2, 8, 1))[0]
        if kind == "make" or not alive:
            self.made += 1
            name = f"s{self.chance.randrange(12)}"
            if all(it.session_id != name for it in alive):
                incarnation = UUID(int=self.made)
                self.rows.append(Stored(0, name, incarnation, self.chance.choice("ab")))
        elif kind == "change":
            it = self.chance.choice(alive)
            it.version, it.unsettled = it.version + 1, True
        else:
            it = self.chance.choice(alive)
            it.delete_time, it.position, it.unsettled = datetime.now(UTC), 0, True

    def settle(self) -> None:
        """What was deleted comes first, and all of it: its id may be in use again."""
        due = [
            it
            for it in self.rows
            if it.unsettled and (it.delete_time is not None or self.chance.random() < 0.7)
        ]
        for it in sorted(due, key=lambda it: it.delete_time is None):
            self.position += 1
            it.position, it.unsettled = self.position, False

    def page(self, owner: str | None, position: int) -> list[Stored]:
        found = [it for it in self.rows if it.position > position and owner in (None, it.owner)]
        return sorted(found, key=lambda it: it.position)[:PAGE]

    # What tails and streams read; each a snapshot, and late.

    async def state(self) -> tuple[int, int]:
        await self.late()
        return self.position, self.position

    async def last_position(self, tenant: str, owner: str | None) -> int:
        await self.late()
        own = [it.position for it in self.rows if owner in (None, it.owner)]
        return max(own, default=0)

    async def advanced(self, positions: Mapping[str, int]) -> list[str]:
        await self.late()
        return [it for it, position in positions.items() if self.page(None, position)]

    async def changes(self, tenant: str, position: int) -> Page:
        return await self.changes_of(SessionFilter(tenant), position)

    async def changes_of(self, wanted: SessionFilter, position: int) -> Page:
        found = self.page(wanted.owner, position)
        entries = [it.seen() for it in found]
        end = found[-1].position if found else 0
        await self.late()
        return Page(entries, end, len(found) == PAGE)

    async def list(self, wanted: SessionFilter, position: int, place: str | None) -> Listed[str]:
        found = [
            it
            for it in sorted(self.rows, key=lambda it: it.session_id)
            if it.delete_time is None
            and it.position <= position
            and it.session_id > (place or "")
            and wanted.owner in (None, it.owner)
        ][:PAGE]
        told = [(it.seen().body, it.session_id) for it in found]
        await self.late()
        return Listed(told, told[-1][1] if len(told) == PAGE else None)

    async def of_subtree(self, wanted: SessionFilter, entries: Sequence[Entry]) -> set[UUID]:
        raise AssertionError("nobody asks for a subtree")

    async def late(self) -> None:
        await asyncio.sleep(self.chance.choice((0, 0, 0.001, 0.003)))


class TextFrames:
    """Frames as text, with the standing as the token."""

    def __init__(self) -> None:
        self.standings: list[Standing[str]] = []

    def frame(self, bodies: list[bytes], standing: Standing[str], *, caught_up: bool) -> bytes:
        self.standings.append(standing)
        return b"".join(bodies) + (b"!" if caught_up else b"")

    def goodbye(self) -> bytes:
        return b"bye"


class Reader:
    """Follows an owner, or all; breaks off, resumes with its last token, and checks versions."""

    def __init__(self, store: Store, owner: str | None, seed: int) -> None:
        self.store = store
        self.owner = owner
        self.chance = random.Random(seed)
        self.now: dict[str, int] = {}
        self.standing: Standing[str] | None = None
        self.caught_up = 0
        self.breaks = 0
        self.last: dict[str, int] = {}

    async def run(self, tails: Tails) -> None:
        while True:
            frames = TextFrames()
            stream = SessionStream[str](tails, self.store, frames, patiently, heartbeat=0.05)
            if self.standing is None:
                position = await self.store.last_position(TENANT, self.owner)
                self.standing = Standing(position, 0, listing=True)
            wanted = SessionFilter(TENANT, self.owner)
            async with aclosing(stream.frames(wanted, self.standing)) as told:
                async for frame in told:
                    self.take(frame.decode())
                    self.standing = frames.standings[-1]
                    if self.chance.random() < 0.1:
                        await asyncio.sleep(0.05)  # too slow for the tail
                    if self.chance.random() < 0.05:
                        self.breaks += 1
                        break

    def take(self, frame: str) -> None:
        self.caught_up += frame.endswith("!")
        for it in frame.removesuffix("!").split(";")[:-1]:
            name, _, version = it.partition("=")
            if not version:
                self.now.pop(name, None)
                self.last.pop(name, None)
                continue
            assert int(version) >= self.last.get(name, 0), f"{name} went back"
            self.now[name] = self.last[name] = int(version)


async def patiently(call: Callable[[], Awaitable[Result]]) -> Result:
    return await call()


@pytest.mark.parametrize("seed", range(6))
async def test_P9_streams_come_to_what_the_store_has_and_never_go_back(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_tails, "_ENTRIES", 4)
    store = Store(random.Random(seed))
    one, two = Tails(store, patiently, poll=0.002), Tails(store, patiently, poll=0.005)
    readers = [Reader(store, (None, "a", "b")[n % 3], seed * 100 + n) for n in range(6)]
    one.start()
    two.start()
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(reader.run((one, two)[number % 2]))
            for number, reader in enumerate(readers)
        ]
        for _ in range(300):
            store.change()
            if store.chance.random() < 0.3:
                store.settle()
            await asyncio.sleep(0.002)
        while any(it.unsettled for it in store.rows):
            store.settle()
        for _ in range(400):
            wrong = [it for it in readers if it.now != truth(store, it.owner)]
            if not wrong:
                break
            await asyncio.sleep(0.05)
        for task in running:
            task.cancel()
    await one.stop()
    await two.stop()
    assert [(it.owner, it.now) for it in wrong] == []
    assert sum(it.breaks for it in readers) > 5
    assert all(it.caught_up for it in readers)


def truth(store: Store, owner: str | None) -> dict[str, int]:
    return {
        it.session_id: it.version
        for it in store.rows
        if it.delete_time is None and owner in (None, it.owner)
    }
