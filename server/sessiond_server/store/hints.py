"""Hints between replicas: after a commit, which sessions may have something new.

A hint may be lost, doubled or late; it only makes watchers look sooner than the hub's sweep. Hints never
ride in an append's transaction: NOTIFY there takes a lock on the whole database server until after the
commit. They are gathered for a moment and sent on a connection of their own.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from uuid import UUID

import asyncpg
import structlog

from sessiond_server.store.database import UNAVAILABLE, connect_for_hints
from sessiond_server.store.keys import SessionKey

log = structlog.get_logger(__name__)

CHANNEL = "sessiond_hints"
GATHER = 0.01
"""Seconds between two sendings of hints; what comes meanwhile is gathered."""
_PAYLOAD_KEYS = 300
"""A notification holds 8000 bytes, a key takes 24."""
_DRAFT = "!"
"""Begins the payload of hints on drafts."""
_PUBLISH_LIMIT = 10_000
"""Sessions whose hints wait while the database doesn't answer; the sweep finds the others."""

Wake = Callable[[Iterable[SessionKey]], None]


class LocalHints:
    """Hints within this process alone: other replicas find by their sweep what is new."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake

    def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to end."""

    def publish(self, keys: Collection[SessionKey]) -> None:
        """Sessions have changed in this process."""
        self._wake(keys)

    def publish_drafts(self, keys: Collection[SessionKey]) -> None:
        """Drafts have changed in this process, where everybody knows of it."""


class NotifyHints(LocalHints):
    """Hints by LISTEN and NOTIFY, on two connections of their own."""

    def __init__(self, dsn: str, wake: Wake, wake_drafts: Wake, sweep: Callable[[], None]) -> None:
        super().__init__(wake)
        self._wake_drafts = wake_drafts
        self._drafts: set[SessionKey] = set()
        self._dsn = dsn
        self._sweep = sweep
        self._waiting: set[SessionKey] = set()
        self._filled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._keep(self._send), name="hints out"),
            asyncio.create_task(self._keep(self._listen), name="hints in"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def publish(self, keys: Collection[SessionKey]) -> None:
        self._wake(keys)
        if len(self._waiting) < _PUBLISH_LIMIT:
            self._waiting.update(keys)
            self._filled.set()

    def publish_drafts(self, keys: Collection[SessionKey]) -> None:
        if len(self._drafts) < _PUBLISH_LIMIT:
            self._drafts.update(keys)
            self._filled.set()

    async def _keep(self, work: Callable[[asyncpg.Connection[asyncpg.Record]], object]) -> None:
        """Do `work` with a connection, and with another one when that is lost."""
        while True:
            connection = None
            try:
                connection = await connect_for_hints(self._dsn)
                await work(connection)  # type: ignore[misc]
            except UNAVAILABLE as error:
                log.debug("hints interrupted", error=repr(error))
            except Exception as error:
                log.error("hints interrupted", exc_info=error)
            finally:
                if connection is not None:
                    with suppress(*UNAVAILABLE):
                        connection.terminate()
            await asyncio.sleep(0.5)

    async def _send(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._filled.wait()
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = loop.time() + GATHER
            self._filled.clear()
            for kind, waiting in (("", self._waiting), (_DRAFT, self._drafts)):
                keys = list(waiting)
                waiting.clear()
                for start in range(0, len(keys), _PAYLOAD_KEYS):
                    payload = kind + _encode(keys[start : start + _PAYLOAD_KEYS])
                    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)

    async def _listen(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, self._heard)
        self._sweep()  # whatever was told before nobody heard
        await lost.wait()

    def _heard(self, _: object, __: int, ___: str, payload: object) -> None:
        text = str(payload)
        if text.startswith(_DRAFT):
            self._wake_drafts(_decode(text.removeprefix(_DRAFT)))
        else:
            self._wake(_decode(text))


def _encode(keys: Iterable[SessionKey]) -> str:
    raw = b"".join(key.bucket.to_bytes(2) + key.key.bytes for key in keys)
    return base64.b64encode(raw).decode()


def _decode(payload: str) -> list[SessionKey]:
    with suppress(ValueError):
        raw = base64.b64decode(payload, validate=True)
        pieces = (raw[start : start + 18] for start in range(0, len(raw), 18))
        return [SessionKey(int.from_bytes(p[:2]), UUID(bytes=p[2:])) for p in pieces]
    return []  # another program's notification
