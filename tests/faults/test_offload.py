"""kill -9 of the server and of its Postgres while messages are offloaded and restored: nothing is lost,
nothing is there twice, and nothing that is read has changed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from sessiond import v1
from tests.rpc.api import Api, answering, calling, said
from tests.support.processes import ServerProcess

ROUNDS = 8
SESSIONS = 3
ALL = v1.MessageView.MESSAGE_VIEW_ALL


def _conversation(number: int) -> list[v1.Message]:
    turns = random.Random(number)
    messages: list[v1.Message] = []
    while len(messages) < 250:
        messages.append(said("x" * turns.randint(1, 2000)))
        ids = [f"call-{len(messages)}-{n}" for n in range(turns.randint(0, 3))]
        if ids:
            messages += [calling(*ids), *(answering(id) for id in ids)]
    return messages


def _everything(api: Api, id: str) -> list[bytes]:
    """All that can be read of a session, but where its offload ends."""
    found = []
    session = api.get(id)
    session.offloaded_before_seq = 0
    for view in (ALL, v1.MessageView.MESSAGE_VIEW_CONTEXT):
        request = v1.ListMessagesRequest(session_id=id, view=view, page_size=97)
        while True:
            page = api.messages.ListMessages(request)
            found += [message.SerializeToString(deterministic=True) for message in page.messages]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    for as_of_seq in (0, 100, session.next_seq - 1):
        context = v1.GetContextRequest(session_id=id, as_of_seq=as_of_seq)
        found += [
            it.SerializeToString(deterministic=True) for it in api.contexts.GetContext(context)
        ]
    return [session.SerializeToString(deterministic=True), *found]


class _Mover(threading.Thread):
    """Offloads and restores without end, on a server that may go away."""

    def __init__(self, target: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._target = target
        self._turns = random.Random(seed)
        self.moves = 0
        self.stopping = False

    def run(self) -> None:
        with grpc.insecure_channel(self._target) as channel:
            api = Api(channel)
            while not self.stopping:
                id = f"s{self._turns.randrange(SESSIONS)}"
                try:
                    self._move(api, id)
                except grpc.RpcError:
                    if not self.stopping:
                        time.sleep(0.01)

    def _move(self, api: Api, id: str) -> None:
        if self._turns.random() < 0.6:
            offload = v1.OffloadMessagesRequest(
                session_id=id, before_seq=self._turns.randint(1, 260)
            )
            self.moves += api.storage.OffloadMessages(offload, timeout=5).message_count
        else:
            restore = v1.RestoreMessagesRequest(session_id=id, from_seq=self._turns.randint(1, 200))
            self.moves += api.storage.RestoreMessages(restore, timeout=5).message_count


@pytest.mark.timeout(300)
def test_P1_P2_P4_P6_kills_while_offloading_lose_and_double_nothing(
    place: Path, start_server: Callable[..., ServerProcess]
) -> None:
    arguments = ("--data-dir", str(place / "data"), "--offload-segment-messages", "16")
    turns = random.Random(7)
    conversations = {f"s{n}": _conversation(n) for n in range(SESSIONS)}
    server = start_server(*arguments)
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        for id, messages in conversations.items():
            api.create(id)
            api.append(id, *messages)
            wanted = v1.PlanCompactionRequest(session_id=id, keep_recent_messages=100)
            plan = api.compactions.PlanCompaction(wanted).plan
            api.compact(id, plan.from_seq, plan.to_seq)
        before = {id: _everything(api, id) for id in conversations}
    moved = 0
    for number in range(ROUNDS):
        mover = _Mover(server.target, number)
        mover.start()
        time.sleep(turns.uniform(0.05, 1))
        if number % 2:
            _kill_postgres(place)
            time.sleep(turns.uniform(0, 0.2))
        mover.stopping = True
        server.kill()
        mover.join(10)
        moved += mover.moves
        server = start_server(*arguments)
        with grpc.insecure_channel(server.target) as channel:
            api = Api(channel)
            for id, messages in conversations.items():
                assert _everything(api, id) == before[id], (number, id)
                place_ = turns.randrange(len(messages))
                assert api.append(id, messages[place_]).first_seq == place_ + 1
    assert moved > 500, "messages were on the move"


def _kill_postgres(place: Path) -> None:
    pid = int((place / "data" / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
