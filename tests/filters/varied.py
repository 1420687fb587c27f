"""Varied sessions, what a filter takes of them by a naive model, and filters to ask for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import v1
from tests.rpc.api import Api, new, said
from tests.support.timeline import until_settled

ACTIVE, ENDED = v1.SessionState.SESSION_STATE_ACTIVE, v1.SessionState.SESSION_STATE_ENDED
LINKED = v1.Lifecycle.LIFECYCLE_LINKED
SUBAGENT, CONTINUATION, FORK = list(v1.ParentKind.values())[1:]
NOW = datetime(2026, 11, 1, tzinfo=UTC)
MINUTES = 10_000
"""How long before that the sessions lived."""
OWNERS = ["ann", "bob", ""]
SOURCES = ["cli", "web", "mail", ""]
AGENTS = ["coder", "writer", "reader", ""]
WORD = "teapot"
"""What all of them say."""


@dataclass
class Made:
    """A session as the test knows it."""

    id: str
    owner: str
    source: str
    agent: str
    labels: dict[str, str]
    ended: bool
    archived: bool
    pinned: bool
    created: datetime
    listed: datetime
    active: datetime
    ended_at: datetime | None
    messages: int
    tokens: int
    """What it used."""
    parent: Made | None = None
    kind: int = 0

    def ancestors(self) -> list[str]:
        return [] if self.parent is None else [self.parent.id, *self.parent.ancestors()]

    def fits(
        self, wanted: v1.SessionFilter, *, archived: bool | None = None, named: bool = False
    ) -> bool:
        """The comments of SessionFilter once more. `archived` is what an RPC means where it isn't said."""
        family = named or wanted.include_subagents or wanted.parent_id or wanted.subtree_of
        if wanted.HasField("archived"):
            archived = wanted.archived
        return (
            (not wanted.HasField("owner") or wanted.owner == self.owner)
            and (not wanted.sources or self.source in wanted.sources)
            and self.source not in wanted.exclude_sources
            and (not wanted.agents or self.agent in wanted.agents)
            and (not wanted.states or (ENDED if self.ended else ACTIVE) in wanted.states)
            and archived in (None, self.archived)
            and dict(wanted.labels).items() <= self.labels.items()
            and (not wanted.parent_id or self.ancestors()[:1] == [wanted.parent_id])
            and (not wanted.subtree_of or wanted.subtree_of in [self.id, *self.ancestors()])
            and bool(family or self.kind != SUBAGENT)
            and _within(self.created, wanted, "create_time")
            and _within(self.active, wanted, "last_activity_time")
            and _within(self.ended_at, wanted, "end_time")
        )


def _within(time: datetime | None, wanted: v1.SessionFilter, field: Any) -> bool:
    if not wanted.HasField(field):
        return True
    given: v1.TimeRange = getattr(wanted, field)
    return (
        time is not None
        and (not given.HasField("start_time") or time >= given.start_time.ToDatetime(UTC))
        and (not given.HasField("end_time") or time < given.end_time.ToDatetime(UTC))
    )


def make(api: Api, dsn: str, seed: int, count: int) -> list[Made]:
    """So many sessions: of several owners, ended, archived, sub-agents', continued and forked. Each has said
    something, used something, and has a reminder that is due."""
    chance = random.Random(seed)
    there: list[Made] = []
    for _ in range(count):
        there.append(_make(api, chance, there))
    for made in there:
        api.append(made.id, said(f"{WORD} {made.id}"))
        api.spend(made.id, _usage(made.tokens))
        api.reminder(made.id, type="wake")
        if made.ended:
            api.end(made.id)
        if made.archived:
            api.archive(made.id)
    asyncio.run(_settle(dsn, there))
    return there


def _usage(tokens: int) -> v1.UsageRecord:
    record = v1.UsageRecord(usage=v1.Usage(input_tokens=tokens), model=f"model-{tokens % 2}")
    record.time.FromDatetime(NOW - timedelta(days=tokens % 3))
    return record


def _make(api: Api, chance: random.Random, there: list[Made]) -> Made:
    unlike = timedelta(microseconds=len(there))  # any other session's times
    created = NOW - timedelta(minutes=chance.randrange(MINUTES)) + unlike
    listed = created + timedelta(minutes=chance.randrange(500))
    active = listed + timedelta(seconds=chance.randrange(60))
    ended = chance.random() < 0.3
    made = Made(
        new(),
        chance.choice(OWNERS),
        chance.choice(SOURCES),
        chance.choice(AGENTS),
        {key: chance.choice("12") for key in ("a", "b") if chance.random() < 0.5},
        ended,
        chance.random() < 0.3,
        chance.random() < 0.2,
        created,
        listed,
        active,
        active + timedelta(minutes=chance.randrange(500)) if ended else None,
        1,
        1000 + len(there),
    )
    facts: dict[str, Any] = {
        "owner": made.owner,
        "source": made.source,
        "agent": made.agent,
        "labels": made.labels,
        "pinned": made.pinned,
    }
    parent = chance.choice(there) if there and chance.random() < 0.6 else None
    if parent is None:
        api.create(made.id, **facts)
        return made
    made.parent, made.kind = parent, chance.choice([SUBAGENT, SUBAGENT, CONTINUATION, FORK])
    if made.kind == FORK:
        api.fork(parent.id, fork=v1.Session(id=made.id, **facts))
        made.owner, made.source = made.owner or parent.owner, made.source or parent.source
        made.agent, made.labels = made.agent or parent.agent, made.labels or parent.labels
    else:
        origin = v1.SessionParent(id=parent.id, kind=made.kind)
        api.create(made.id, parent=origin, lifecycle=LINKED, **facts)
    return made


async def _settle(dsn: str, there: list[Made]) -> None:
    """The times of sessions."""
    connection = await asyncpg.connect(dsn)
    try:
        await until_settled(connection)
        await connection.executemany(
            "UPDATE session SET create_time = $2, listed_time = $3, end_time = $4"
            " WHERE session_id = $1",
            [(it.id, it.created, it.listed, it.ended_at) for it in there],
        )
        await connection.executemany(
            "UPDATE session_head AS h SET activity_time = $2 FROM session AS s"
            " WHERE s.session_id = $1 AND s.bucket = h.bucket AND s.session_key = h.session_key",
            [(it.id, it.active) for it in there],
        )
    finally:
        await connection.close()


def times(chance: random.Random) -> v1.TimeRange:
    """A range in which some sessions are, open at one end or at none."""
    ends = sorted(chance.sample(range(MINUTES), 2), reverse=True)
    start, end = (Timestamp() for _ in ends)
    start.FromDatetime(NOW - timedelta(minutes=ends[0]))
    end.FromDatetime(NOW - timedelta(minutes=ends[1]))
    kind = chance.randrange(3)
    return v1.TimeRange(
        start_time=start if kind != 1 else None, end_time=end if kind != 2 else None
    )


def _values(chance: random.Random, there: list[Made]) -> dict[str, Any]:
    """A value for each field of a filter."""
    return {
        "owner": chance.choice([*OWNERS, "nobody"]),
        "sources": chance.sample([*SOURCES, "none"], chance.choice([1, 3])),
        "exclude_sources": chance.sample(SOURCES, 2),
        "agents": chance.sample([*AGENTS, "none"], chance.choice([1, 2])),
        "states": chance.choice([[ACTIVE], [ENDED], [ENDED, ENDED], [ACTIVE, ENDED]]),
        "archived": chance.random() < 0.5,
        "labels": dict.fromkeys(chance.sample("ab", chance.choice([1, 2])), "1"),
        "parent_id": chance.choice([it.parent.id for it in there if it.parent] + [new()]),
        "subtree_of": chance.choice([*(it.id for it in there[:20]), new()]),
        "include_subagents": True,
        "create_time": times(chance),
        "last_activity_time": times(chance),
        "end_time": times(chance),
        "whole_tenant": True,
    }


SCOPES = {"owner", "parent_id", "subtree_of", "whole_tenant"}


def each_field(there: list[Made], seed: int) -> Iterator[tuple[str, v1.SessionFilter]]:
    """Filters of one field and a scope, several for each field, by the field's name."""
    chance = random.Random(seed)
    for name in v1.SessionFilter.DESCRIPTOR.fields_by_name:
        for _ in range(4):
            wanted = {"whole_tenant": True, "include_subagents": chance.random() < 0.5}
            if name in SCOPES:
                del wanted["whole_tenant"]
            yield name, v1.SessionFilter(**{**wanted, name: _values(chance, there)[name]})


def mixed(there: list[Made], seed: int, count: int) -> Iterator[v1.SessionFilter]:
    """Filters of several fields."""
    chance = random.Random(seed)
    for number in range(count):
        likely = (0.1, 0.3)[number % 2]
        values = _values(chance, there)
        given = {name: value for name, value in values.items() if chance.random() < likely}
        if not given.keys() & SCOPES:
            given["whole_tenant"] = True
        yield v1.SessionFilter(**given)
