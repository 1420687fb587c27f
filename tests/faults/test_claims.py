"""Claims under kills: nobody has what another has, nothing is lost, and what a reminder says is said once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import sessiond
from sessiond import Client, session_filter
from sessiond.v1 import ReminderState
from tests.support.processes import ServerProcess
from tests.support.timeline import pass_time

REMINDERS = 240
EVERYTHING = session_filter(whole_tenant=True)
HELLO = sessiond.message("user", "hello")


class Worker:
    """A worker's process, and what it has claimed."""

    def __init__(self, targets: str, number: int, seed: int) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.reminder_worker"),
                *(targets, f"worker-{number}", str(seed + number)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.claims: list[tuple[str, int, float, float]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                id, attempt, start, end = json.loads(line)
                self.claims.append((id, attempt, start, end))

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_A_reminders_are_served_once_whatever_is_killed(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """Five workers at two servers, of which some are killed; each reminder's message is there once."""
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    servers = [start_server(SESSIOND_DSN=dsn) for _ in range(2)]
    there = ",".join(server.target for server in servers)
    back = ",".join(server.target for server in reversed(servers))
    with Client(servers[1].target) as client:
        ids = [f"session-{number}" for number in range(12)]
        for id in ids:
            client.create_session(id)
        workers = [Worker(there if n % 2 else back, n, seed) for n in range(5)]
        try:
            for number in range(REMINDERS):
                id = ids[number % len(ids)]
                client.create_reminder(id, number / 100, id=f"r{number}", message=f"say {number}")
            _wait(lambda: sum(len(it.claims) for it in workers) > REMINDERS // 4)
            workers[0].kill()
            servers[0].kill()
            _wait(lambda: sum(len(it.claims) for it in workers) > REMINDERS // 2)
            workers[1].kill()
            _wait(
                lambda: (
                    not list(client.list_reminders(filter=EVERYTHING, state="pending", page_size=1))
                )
            )
        finally:
            for worker in workers:
                worker.kill()
        assert not servers[1].bugs()
        said = [sessiond.text_of(message) for id in ids for message in client.list_messages(id)]
        assert sorted(said) == sorted(f"say {number}" for number in range(REMINDERS))
        reminders = list(client.list_reminders(filter=EVERYTHING))
    assert {it.state for it in reminders} == {ReminderState.REMINDER_STATE_COMPLETED}
    assert {it.fired_count for it in reminders} == {1}
    _check_apart([claim for worker in workers for claim in worker.claims])


def _check_apart(claims: list[tuple[str, int, float, float]]) -> None:
    """A claim begins when the one before has ended, by the database's clock."""
    by_reminder = defaultdict(list)
    for id, attempt, start, end in claims:
        by_reminder[id].append((start, end, attempt))
    again = 0
    for spans in by_reminder.values():
        spans.sort()
        for (_, end, attempt), (start, _, later) in pairwise(spans):
            assert start >= end - 1e-6
            assert later > attempt
            again += 1
    assert again, "some were dropped, or this shows nothing"


def test_A_stale_sessions_are_handed_to_one_worker_each(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """Eight workers at two servers at once, and every session is worked on once."""
    servers = [start_server(SESSIOND_DSN=dsn) for _ in range(2)]
    with Client(servers[0].target) as client:
        ids = [client.create_session(f"s{number}").id for number in range(120)]
        for id in ids:
            client.append(id, HELLO)
    pass_time(dsn, 3600)

    def work(number: int) -> list[str]:
        found: list[str] = []
        with Client(servers[number % 2].target) as client:
            while True:
                answer = client.claim_sessions("memory", EVERYTHING, max_count=3, lease_ttl=600)
                for claimed in answer.sessions:
                    found.append(claimed.session_id)
                    seq = claimed.next_seq - 1
                    token = claimed.claim_token
                    client.set_cursor(claimed.session_id, "memory", seq, claim_token=token)
                if not answer.sessions and not answer.more:
                    return found

    with ThreadPoolExecutor(8) as pool:
        found = [id for ids in pool.map(work, range(8)) for id in ids]
    assert sorted(found) == sorted(ids)
    assert not any(server.bugs() for server in servers)
