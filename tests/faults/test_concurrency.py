"""Many writers on two servers with one Postgres: order, whole batches, exactly one of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc.aio
import pytest

from sessiond import v1
from tests.faults.history import Outcome
from tests.faults.load import Load, channel
from tests.faults.reading import verify
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]
WRITERS = 64


class Reader:
    """Reads on from what it has seen, anywhere: it never misses a seq, and never sees less (P1)."""

    def __init__(self, targets: Sequence[str], session: str) -> None:
        self._channels = [channel(target) for target in targets]
        self._session = session
        self.seen = 0

    async def run(self) -> None:
        stubs = [v1.MessageServiceStub(one) for one in self._channels]
        try:
            while True:
                for stub in stubs:
                    await self._read(stub)
                await asyncio.sleep(0.005)
        finally:
            for one in self._channels:
                await one.close()

    async def _read(self, stub: v1.MessageServiceAsyncStub) -> None:
        request = v1.ListMessagesRequest(
            session_id=self._session,
            view=v1.MessageView.MESSAGE_VIEW_ALL,
            from_seq=max(1, self.seen),
            page_size=1000,
        )
        try:
            page = await stub.ListMessages(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND and self.seen == 0:
                return
            raise
        seqs = [message.seq for message in page.messages]
        assert seqs == list(range(request.from_seq, request.from_seq + len(seqs)))
        assert not self.seen or seqs, "what was there is gone"
        self.seen = max(self.seen, seqs[-1] if seqs else 0)


async def loaded(load: Load) -> None:
    """Run the load beside a reader of its first session."""
    reader = Reader(load.targets, load.sessions[0])
    reading = asyncio.create_task(reader.run())
    async with asyncio.timeout(60):
        await load.run(WRITERS)
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert reader.seen
    assert load.surprises == []
    assert load.history.reasons() <= {"NEXT_SEQ_MISMATCH", "SESSION_NOT_FOUND"}
    assert load.history.count(Outcome.ACKED) > WRITERS * load.calls // 2
    assert load.history.count(Outcome.UNKNOWN) > WRITERS


@pytest.mark.parametrize("session_count", [1, 200])
async def test_P1_P3_P4_many_writers_on_two_servers_leave_one_whole_gapless_log(
    dsn: str, start_server: Start, session_count: int
) -> None:
    servers = [start_server(SESSIOND_DSN=dsn, SESSIOND_APPEND_LANES=str(n)) for n in (1, 3)]
    load = Load(
        [server.target for server in servers],
        [f"s{number}" for number in range(session_count)],
        calls=12,
        create=True,
    )
    await loaded(load)
    async with channel(servers[0].target) as read_through:
        await verify(load.history, read_through, dsn)
    for server in servers:
        assert server.stop() == 0
        assert not server.bugs()


async def test_P1_P4_retries_and_cancellations_alone(dsn: str, start_server: Start) -> None:
    """Most calls are given up before they are answered."""
    servers = [start_server(SESSIOND_DSN=dsn) for _ in range(2)]
    load = Load(
        [server.target for server in servers],
        ["one", "two", "three"],
        calls=10,
        impatience=0.9,
        create=True,
        seed=2,
    )
    await loaded(load)
    async with channel(servers[1].target) as read_through:
        await verify(load.history, read_through, dsn)
    for server in servers:
        assert server.stop() == 0
        assert not server.bugs()
