"""One append on its way to the log, and the statement that stores many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import asyncpg

from sessiond_server.errors import AppendTimeout
from sessiond_server.sessions import contents
from sessiond_server.sessions.guards import UNGUARDED, Guard, Version
from sessiond_server.sessions.usage import Record
from sessiond_server.store import offloaded
from sessiond_server.store.database import Connection
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey, owner_of
from sessiond_server.store.sql import QUERIES, query
from sessiond_server.store.touched import touch

_CALL_NUMBER_SHIFT = 47
_ID_SEPARATOR, _SEPARATOR = "\x1f", "\x1e"
"""Between ids and behind lists of them in a parameter; ids and types hold no control characters."""


REFUSE, SKIP, SKIP_ANY_CONTENT = ON_KNOWN = 1, 2, 3
"""What to do with messages that are stored already: the values of `sessiond.v1.OnKnown`."""

Parent = tuple[str, int]
"""The id of the session that one comes from, and in which way."""


class MessageRow(NamedTuple):
    """A message as the statement takes it, in the order of its parameters.

    Each parameter is an array, whose encoding costs more than what it holds, so the small facts travel in
    one number, see `pack`, and tool ids and the type in one text, see `join_tools`.
    """

    client_id: str
    facts: int
    tools: str | None
    payload: bytes

    @property
    def in_context(self) -> bool:
        return bool(self.facts & 2)

    @property
    def token_count(self) -> int:
        return self.facts >> 16

    @property
    def kind(self) -> int:
        return self.facts >> 2 & 63

    @property
    def in_transcript(self) -> bool:
        return bool(self.facts & 1)

    @property
    def type(self) -> str:
        return "" if self.tools is None else self.tools.rpartition(_SEPARATOR)[2]


def pack(token_count: int, role: int, kind: int, in_context: bool, in_transcript: bool) -> int:
    """The facts of a message in one number of 47 bits, as the statement takes them apart again."""
    return token_count << 16 | role << 8 | kind << 2 | in_context << 1 | in_transcript


class Ack(NamedTuple):
    """What an append came to: the seqs of its messages, how far the session had come right after it, and
    whether all of them were there before."""

    seqs: Sequence[int]
    version: Version
    replayed: bool
    offloaded: bool = False
    """Whether the session is known to have offloaded messages."""
    known: Sequence[bool] = ()
    """Which messages were there before; empty if none was."""
    session_created: bool = False


def join_tools(calls: Sequence[str], results: Sequence[str], type: str) -> str:
    """The ids of a message's tool calls, the ids that its results answer, and its type, in one text."""
    answered = dict.fromkeys(results) if len(results) > 1 else results
    return _SEPARATOR.join((_ID_SEPARATOR.join(calls), _ID_SEPARATOR.join(answered), type))


def _future() -> asyncio.Future[Ack]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Append:
    """The messages of one call, each once, and who waits for the answer."""

    session_id: str
    key: SessionKey
    rows: list[MessageRow]
    guard: Guard = UNGUARDED
    on_known: int = REFUSE
    creation: object | None = None
    birth: str | None = None
    """What the session must be, as the statement takes it apart; see `birth_of`."""
    bytes: int = 0
    usage: Record | None = None
    """What the turn used, counted in the transaction that stores its messages."""
    places: list[int] | None = None
    """Which row each message of the call is, if some came several times."""
    answer: asyncio.Future[Ack] = field(default_factory=_future)
    begun: bool = False
    """Whether it is being stored: it can't be taken back any more."""

    def expire(self, seconds: float) -> None:
        """Refuse it, after it has waited for so long, unless it has begun."""
        if not self.begun and not self.answer.done():
            self.answer.set_exception(AppendTimeout(seconds))

    def of_all(self, ack: Ack) -> Ack:
        """The answer about all messages of the call, of one that is about each of them once."""
        if self.places is None:
            return ack
        known = list(ack.known) or [False] * len(self.rows)
        told: list[bool] = []
        for place in self.places:
            told.append(known[place])
            known[place] = True
        return ack._replace(seqs=[ack.seqs[place] for place in self.places], known=told)

    @property
    def expects(self) -> bool:
        """Whether it depends on what was appended before."""
        return bool(self.guard.expected_next_seq or self.guard.expected_revision)

    @property
    def expected(self) -> int:
        """What it expects, as the statement takes it."""
        return self.guard.expected_next_seq or -self.guard.expected_revision

    @property
    def context_tokens(self) -> int:
        """How many tokens it adds to the context."""
        tokens = 0
        for row in self.rows:
            if row.facts & 2:
                tokens += row.facts >> 16
        return tokens


def birth_of(owner: str, source: str, agent: str, parent: Parent | None) -> str | None:
    """Whose session it must be and where it must come from, in one text; what is empty may be anything."""
    facts = [owner, source, agent]
    facts.append("" if parent is None else f"{parent[1]} {parent[0]}")
    return _ID_SEPARATOR.join(facts) if any(facts) else None


_LOOKS = "c.call_no <> ALL (SELECT m.call_no FROM met AS m)"
QUERIES["append_messages_plain"] = QUERIES["append_messages"].replace(_LOOKS, "false")


class Stored(NamedTuple):
    """The seq of an append's first message, and how far the session had come right after its last one."""

    first_seq: int
    version: Version


async def store(
    connection: Connection,
    appends: Sequence[Append],
    *,
    summary: bool = False,
    looked: bool = False,
    offloads: bool = False,
) -> dict[int, Stored]:
    """Store the appends that are allowed, by their places. An append whose place isn't among them was left
    out whole, for instance because one of its client ids may be that of an offloaded message, unless these
    are `looked` up already, under the session's lock. Without `offloads` those to sessions with offloaded
    messages are left out, too. None may expect both a seq and a revision.

    Raises asyncpg's `UniqueViolationError`, and stores nothing, when a session has one of the client ids.
    """
    client_ids, facts, tools, payloads = zip(
        *(row for append in appends for row in append.rows), strict=True
    )
    places = [place for place, append in enumerate(appends, start=1) for _ in append.rows]
    stored = await connection.fetch(
        query("append_messages" if offloads else "append_messages_plain"),
        [append.key.bucket for append in appends],
        [append.key.key for append in appends],
        [append.expected for append in appends],
        [append.guard.writer_token for append in appends],
        [append.birth or owner_of(append.key) for append in appends],
        client_ids,
        [place << _CALL_NUMBER_SHIFT | fact for place, fact in zip(places, facts, strict=True)],
        tools,
        payloads,
        summary,
        looked,
    )
    touch(*(append.key for append in appends))
    return _placed(appends, stored)


def _placed(appends: Sequence[Append], allowed: Sequence[asyncpg.Record]) -> dict[int, Stored]:
    """Where the appends stand that were allowed, each behind those of its session before it."""
    found: dict[int, Stored] = {}
    reached: dict[SessionKey, Version] = {}
    for call_no, next_seq, context_changes, tokens in sorted(allowed, key=itemgetter(0)):
        append = appends[call_no - 1]
        before = reached.get(append.key)
        if before is not None:
            next_seq, _, tokens = before
        after = next_seq + len(append.rows)
        version = Version(after, after + context_changes, tokens + append.context_tokens)
        reached[append.key] = version
        found[call_no - 1] = Stored(next_seq, version)
    return found


async def with_known_messages(connection: Connection, appends: Sequence[Append]) -> set[int]:
    """The places of the appends that hold a message whose client id its session has."""
    items = [
        (append.key.bucket, append.key.key, row.client_id, place)
        for place, append in enumerate(appends)
        for row in append.rows
    ]
    found = await connection.fetch(
        query("calls_with_known_messages"), *map(list, zip(*items, strict=True))
    )
    return {row[0] for row in found}


class Known(NamedTuple):
    """A message that is stored under a client id."""

    seq: int
    other: bytes | None
    """Its encoding as it was appended, if that isn't the one that is sent now; empty if its length alone
    tells that it says something else."""

    def says(self, row: MessageRow) -> bool:
        """Whether it has the content that is sent now."""
        return self.other is None or contents.same(self.other, row.payload)


async def known(connection: Connection, head: Head, rows: Sequence[MessageRow]) -> dict[str, Known]:
    """Which of the messages the session has, offloaded ones too, by client id; its head is locked."""
    found: list[asyncpg.Record] = await connection.fetch(
        query("known_messages"),
        *head.key,
        [row.client_id for row in rows],
        [row.payload for row in rows],
        contents.SPELLING_BYTES,
    )
    there = {row[0]: Known(row[1], row[2]) for row in found}
    if head.has_offloaded and len(there) < len(rows):
        there |= await _offloaded(connection, head, [r for r in rows if r.client_id not in there])
    return there


async def _offloaded(
    connection: Connection, head: Head, rows: Sequence[MessageRow]
) -> dict[str, Known]:
    found = await offloaded.by_client_ids(
        connection, head.key, head.first_seq, [row.client_id for row in rows]
    )
    if not found:
        return {}
    first = await connection.fetch(
        query("first_versions"), *head.key, [message.seq for message in found.values()]
    )
    payloads = {row["seq"]: row["payload"] for row in first}
    return {
        row.client_id: Known(message.seq, None if payload == row.payload else payload)
        for row in rows
        if (message := found.get(row.client_id)) is not None
        for payload in [payloads.get(message.seq, message.payload)]
    }
