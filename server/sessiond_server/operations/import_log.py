"""The log of a session that is imported: what is there is compared, what is missing is added in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import asyncpg

from sessiond_server.errors import ClientIdReused, ImportConflict, InvalidFields, invalid
from sessiond_server.operations import hiding, offloading
from sessiond_server.sessions import visibility
from sessiond_server.sessions.transfers import (
    BillingFacts,
    Change,
    Compaction,
    CompactionRevert,
    Item,
    JournalRecord,
    Kept,
    Mark,
    Message,
    Reminder,
    Revision,
    Rewind,
    RewindRevert,
    SeenRequest,
    UsageSum,
    UsageTurn,
)
from sessiond_server.sessions.visibility import PartialOverlap, hidden_spans
from sessiond_server.store import changes, contexts, offloaded, transfers
from sessiond_server.store.database import Connection
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey

_HIDING = (Compaction, CompactionRevert, Rewind, RewindRevert)
_KEPT = (UsageSum, UsageTurn, BillingFacts, SeenRequest, JournalRecord, Mark, Reminder)


@dataclass(slots=True)
class Counts:
    """How many messages and other records were added, and how many were there."""

    messages_added: int = 0
    messages_known: int = 0
    records_added: int = 0
    records_known: int = 0


class LogImport:
    """Adds a piece of a log to a session whose head is locked: all of it, or nothing."""

    def __init__(
        self, connection: Connection, session_id: str, key: SessionKey, head: Head
    ) -> None:
        self.counts = Counts()
        self.next_seq = head.next_seq
        self.next_change = head.next_change
        self._connection = connection
        self._session_id = session_id
        self._key = key
        self._head = head
        self._last_time: datetime | None = None
        self._messages: list[Message] = []
        self._revisions: list[Revision] = []
        self._records: list[transfers.Record] = []
        self._kept: list[Kept] = []
        self._compactions: dict[int, visibility.Compaction] = {}
        self._rewinds: dict[int, visibility.Rewind] = {}
        self._open_summary = 0
        self._unchecked = self._hidden = False
        self._rewound_from: int | None = None
        self._handlers: dict[type[Any], Callable[[Any], bool]] = {
            Message: self._message,
            Revision: self._revision,
            Compaction: self._compaction,
            CompactionRevert: self._compaction_revert,
            Rewind: self._rewind,
            RewindRevert: self._rewind_revert,
            Change: self._change,
        }

    async def add(self, items: Sequence[Item]) -> None:
        """Add what is missing. Raises `ImportConflict` and `InvalidFields`."""
        await self._learn(items)
        for item in items:
            if self._open_summary and not isinstance(item, Compaction):
                raise self._wrong(
                    "summary", f"message {self._open_summary} is a summary without compaction"
                )
            if isinstance(item, _KEPT):
                self._keep(item)
            else:
                self._count(isinstance(item, Message), self._handlers[type(item)](item))
        if self._open_summary:
            raise self._wrong(
                "summary", f"message {self._open_summary} is a summary without compaction"
            )
        self._check_hidden()
        await self._store()

    def _keep(self, item: Kept) -> None:
        if isinstance(item, Mark) and item.seq >= self.next_seq:
            raise self._wrong("cursor.seq", f"must be below {self.next_seq}, is {item.seq}")
        self._kept.append(item)

    def _count(self, message: bool, known: bool) -> None:
        counts = self.counts
        if message:
            counts.messages_known += known
            counts.messages_added += not known
        else:
            counts.records_known += known
            counts.records_added += not known

    async def _learn(self, items: Sequence[Item]) -> None:
        """What the session has of these."""
        head, connection, key = self._head, self._connection, self._key
        stored = [i for i in items if isinstance(i, Message) and i.seq < head.next_seq]
        self._equal = await transfers.equal_messages(connection, key, stored) if stored else set()
        revisions = [i for i in items if isinstance(i, Revision)]
        self._known_revisions = (
            await transfers.known_revisions(connection, key, revisions) if revisions else {}
        )
        numbers = [i.change_no for i in items if isinstance(i, Change)]
        self._known_changes = (
            await transfers.known_changes(connection, key, numbers) if numbers else {}
        )
        if any(isinstance(i, _HIDING) for i in items):
            compactions, rewinds = await contexts.history(connection, key)
            self._compactions = {c.summary_seq: c for c in compactions}
            self._rewinds = {r.rewind_id: r for r in rewinds}
        self._last_time = await transfers.last_time(connection, key, head.last_seq)

    def _wrong(self, field: str, description: str) -> InvalidFields:
        return invalid(f"records.{field}", f"in session {self._session_id}: {description}")

    def _conflict(self, seq: int | None, why: str) -> ImportConflict:
        return ImportConflict(self._session_id, seq, why)

    def _message(self, item: Message) -> bool:
        if item.summary:
            self._open_summary = item.seq
        if item.seq < self._head.next_seq:
            if item.seq < self._head.first_seq:
                raise self._conflict(item.seq, "was cleared in the store")
            if item.seq not in self._equal:
                raise self._conflict(item.seq, "is another message in the store")
            return True
        if item.seq != self.next_seq:
            raise self._wrong("message.seq", f"must be {self.next_seq}, is {item.seq}")
        if self._last_time is not None and item.create_time < self._last_time:
            raise self._wrong(
                "message.create_time", f"message {item.seq} is older than the one before it"
            )
        self._check_hidden()
        self._last_time = item.create_time
        self._messages.append(item)
        self.next_seq += 1
        return False

    def _check_hidden(self) -> None:
        """What is hidden must make sense at every message, since contexts are read as of each."""
        if not self._unchecked:
            return
        try:
            hidden_spans(self._compactions.values(), self._rewinds.values())
        except PartialOverlap as overlap:
            raise self._wrong(
                "compaction", f"that of summary {overlap.summary_seq} overlaps another in part"
            ) from overlap
        self._unchecked = False

    def _numbered(self, field: str, number: int, *, group: bool = False) -> None:
        """Take a change's number, which must be new; those of a group share one."""
        if number != self.next_change - 1 or not group:
            if number < self.next_change:
                raise self._conflict(None, f"has another change {number} in the store")
            self.next_change = number + 1
        elif number < 1:
            raise self._wrong(field, "must be 1 or more")

    def _now(self, field: str, effective_seq: int) -> None:
        if effective_seq != self.next_seq:
            raise self._wrong(field, f"must be {self.next_seq} here, is {effective_seq}")

    def _revision(self, item: Revision) -> bool:
        same = self._known_revisions.get((item.seq, item.change_no))
        if same is not None:
            if not same:
                raise self._conflict(item.seq, "was another message once in the store")
            return True
        if not self._head.first_seq <= item.seq < self.next_seq:
            raise self._wrong("revision.seq", f"there is no message {item.seq}")
        self._now("revision.effective_seq", item.effective_seq)
        self._numbered("revision.change_no", item.change_no, group=True)
        if any(r.seq == item.seq and r.change_no == item.change_no for r in self._revisions):
            raise self._wrong("revision.seq", f"message {item.seq} comes twice")
        self._revisions.append(item)
        return False

    def _told(self, number: int, kind: int, reference: int, time: datetime) -> None:
        """Tell of something for which no change comes."""
        self.next_change += 1
        self._records.append(
            Change(number + 1, self.next_seq - 1, kind, reference, None, "", 0, time)
        )

    def _compaction(self, item: Compaction) -> bool:
        if self._open_summary != item.summary_seq:
            raise self._wrong("compaction.id", "isn't that of the summary before it")
        self._open_summary = 0
        if item.summary_seq < self._head.next_seq:
            known = self._compactions.get(item.summary_seq)
            if known is None or (known.from_seq, known.to_seq) != (item.from_seq, item.to_seq):
                raise self._conflict(
                    item.summary_seq, "is the summary of another compaction in the store"
                )
            return True
        if not self._head.first_seq <= item.from_seq <= item.to_seq < item.summary_seq:
            raise self._wrong("compaction.from_seq", "isn't a range of messages before the summary")
        number = item.change_no or self.next_change
        self._numbered("compaction.change_no", number)
        self._records.append(item._replace(change_no=number))
        if not item.change_no:
            self._told(number, changes.COMPACTED, item.summary_seq, item.create_time)
        self._compactions[item.summary_seq] = visibility.Compaction(*_compaction_span(item))
        self._unchecked = self._hidden = True
        return False

    def _compaction_revert(self, item: CompactionRevert) -> bool:
        known = self._compactions.get(item.summary_seq)
        if known is None:
            raise self._wrong(
                "compaction_revert.compaction_id", f"there is no compaction {item.summary_seq}"
            )
        if known.revert_effective_seq is not None:
            if known.revert_effective_seq != item.effective_seq:
                raise self._conflict(item.summary_seq, "was reverted elsewhere in the store")
            return True
        self._now("compaction_revert.effective_seq", item.effective_seq)
        self._records.append(item)
        self._compactions[item.summary_seq] = known._replace(
            revert_effective_seq=item.effective_seq
        )
        self._unchecked = self._hidden = True
        return False

    def _rewind(self, item: Rewind) -> bool:
        known = self._rewinds.get(item.rewind_id) if item.rewind_id else self._same_rewind(item)
        if known is not None:
            if known[1:4] != item[1:4]:
                raise self._conflict(None, f"has another rewind {item.rewind_id} in the store")
            return True
        self._now("rewind.effective_seq", item.effective_seq)
        if not 0 <= item.after_seq < item.to_seq == self.next_seq - 1:
            raise self._wrong("rewind.to_seq", "isn't the last message, behind `after_seq`")
        number = item.rewind_id or self.next_change
        self._numbered("rewind.id", number)
        self._records.append(item._replace(rewind_id=number))
        if not item.rewind_id:
            self._told(number, changes.REWOUND, number, item.create_time)
        self._rewinds[number] = visibility.Rewind(number, *item[1:4])
        self._changes_rewound(item.after_seq + 1)
        return False

    def _changes_rewound(self, from_seq: int) -> None:
        self._unchecked = self._hidden = True
        first = self._rewound_from
        self._rewound_from = from_seq if first is None else min(first, from_seq)

    def _same_rewind(self, item: Rewind) -> visibility.Rewind | None:
        return next((r for r in self._rewinds.values() if r[1:4] == item[1:4]), None)

    def _rewind_revert(self, item: RewindRevert) -> bool:
        known = self._rewinds.get(item.rewind_id)
        if known is None:
            raise self._wrong("rewind_revert.rewind_id", f"there is no rewind {item.rewind_id}")
        if known.revert_effective_seq is not None:
            if known.revert_effective_seq != item.effective_seq:
                raise self._conflict(None, f"has rewind {item.rewind_id} reverted elsewhere")
            return True
        self._now("rewind_revert.effective_seq", item.effective_seq)
        self._records.append(item)
        self._rewinds[item.rewind_id] = known._replace(revert_effective_seq=item.effective_seq)
        self._changes_rewound(known.after_seq + 1)
        return False

    def _change(self, item: Change) -> bool:
        known = self._known_changes.get(item.change_no)
        if known is not None:
            if not known.same(item):
                raise self._conflict(None, f"has another change {item.change_no} in the store")
            return True
        before_all = item.after_seq < self.next_seq == self._head.first_seq
        if item.after_seq != self.next_seq - 1 and not before_all:
            raise self._wrong(
                "change.after_seq", f"must be {self.next_seq - 1} here, is {item.after_seq}"
            )
        self._numbered("change.change_no", item.change_no)
        self._records.append(item)
        return False

    async def _store(self) -> None:
        connection, key, head = self._connection, self._key, self._head
        if self._messages:
            await self._check_offloaded()
            try:
                await transfers.add_messages(connection, key, self._messages)
            except asyncpg.UniqueViolationError as error:
                raise ClientIdReused(_twice(self._messages), None) from error
        if self._revisions:
            await transfers.add_revisions(connection, key, self._revisions)
        for record in self._records:
            await transfers.add_record(connection, key, record)
        for kept in self._kept:
            self._count(False, not await transfers.keep(connection, key, kept))
        if self._rewound_from is not None:
            offloading.check_restored(head, self._rewound_from)
        if self._hidden:
            grown = replace(head, next_seq=self.next_seq)
            rewound = self._rewound_from is not None
            await hiding.derive(connection, key, grown, rewound_changed=rewound)
        if self._hidden or self.next_change != head.next_change:
            await transfers.set_next_change(connection, key, self.next_change)

    async def _check_offloaded(self) -> None:
        """Client ids of offloaded messages are taken too (P4)."""
        if self._head.has_offloaded:
            ids = [message.client_id for message in self._messages]
            first = self._head.first_seq
            taken = await offloaded.by_client_ids(self._connection, self._key, first, ids)
            for client_id, message in taken.items():
                raise ClientIdReused(client_id, message.seq)


def _compaction_span(item: Compaction) -> tuple[int, int, int]:
    return item.summary_seq, item.from_seq, item.to_seq


def _twice(messages: Sequence[Message]) -> str:
    """A client id that comes twice, or else the first of those of which one was there."""
    seen: set[str] = set()
    for message in messages:
        if message.client_id in seen:
            return message.client_id
        seen.add(message.client_id)
    return messages[0].client_id
