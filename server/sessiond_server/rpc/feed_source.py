"""What feeds read: pages of what happened in a session, from the store, encoded."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping

from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.v1 import feed_service_pb2 as rpc
from sessiond_server.errors import SessionNotFound
from sessiond_server.feed.source import Batch, Place, Version, Watched
from sessiond_server.feed.watching import Beginning
from sessiond_server.rpc import access, feed_frames, limits
from sessiond_server.rpc.attachments_io import attachment_out
from sessiond_server.rpc.compaction_service import compaction_out
from sessiond_server.rpc.feed_frames import Encoded, Step, event_field, mark
from sessiond_server.rpc.message_service import rewind_out
from sessiond_server.rpc.messages_out import as_field, encoded
from sessiond_server.rpc.reminders_io import reminder_out
from sessiond_server.rpc.sessions_io import session_out
from sessiond_server.rpc.storage_service import offload_out
from sessiond_server.rpc.usage_io import session_usage
from sessiond_server.sessions import facts
from sessiond_server.store import (
    attachments,
    changes,
    contexts,
    messages,
    offload,
    reminders,
    sessions,
)
from sessiond_server.store.changes import Happened, Start
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Marks, StoredMessage

_TOLD_AS_ONE = {changes.FACTS: operator.or_, changes.USAGE: operator.add}
"""Kinds of changes that are told as one when they follow each other, and how their references are joined."""
_UNMARKED = Marks(set(), {}, {})
_APPENDED, _UPDATED = (
    rpc.FeedEvent.DESCRIPTOR.fields_by_name[name].number
    for name in ("message_appended", "message_updated")
)


class StoreSource:
    """The store as feeds see it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, watched: Watched, place: Place, from_seq: int) -> Batch | None:
        return await self._database.read(
            lambda connection: _read(connection, watched, place, from_seq)
        )

    async def versions(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, Version]:
        async with self._database.connection() as connection:
            found = await changes.versions(connection, list(keys))
        return {key: Version(*version) for key, version in found.items()}

    async def begin(self, session_id: str, from_seq: int = 1) -> Beginning:
        """A watch from a message on; from 1 on, it is told what happened before as well. Raises
        `SessionNotFound`."""
        if from_seq == 1:
            return _beginning(session_id, await self._start(session_id, 0, before_seq=0), 0)
        start = await self._start(session_id, from_seq - 1, before_seq=from_seq)
        if start.next_seq <= from_seq:
            start = await self._start(session_id, None)
        return _beginning(session_id, start, from_seq)

    async def begin_now(self, session_id: str) -> Beginning:
        """A watch of what happens from now on. Raises `SessionNotFound`."""
        return _beginning(session_id, await self._start(session_id, None), 0)

    async def _start(self, session_id: str, seq: int | None, before_seq: int = 2**62) -> Start:
        async def work(connection: Connection) -> Start | None:
            key = await access.find_key(connection, session_id)
            start = await changes.start(connection, key, seq=seq, before_seq=before_seq)
            return await _own(connection, session_id, start)

        start = await self._database.read(work)
        if start is None:
            raise SessionNotFound(session_id)
        return start

    async def at(self, session_id: str, place: Place) -> Start | None:
        """What stands at a place; `None` if there is no such session."""

        async def work(connection: Connection) -> Start | None:
            key = await access.find_key(connection, session_id)
            start = await changes.start(connection, key, seq=place.seq, change_no=place.change_no)
            return await _own(connection, session_id, start)

        return await self._database.read(work)

    async def descendants(self, session_id: str) -> list[str]:
        """The sessions that come from one."""
        async with self._database.connection() as connection:
            return await changes.descendants(
                connection, access.tenant(), session_id, limits.WATCH_DESCENDANTS
            )


async def _own(connection: Connection, session_id: str, start: Start | None) -> Start | None:
    """What the caller may see: nothing, if the session became somebody else's while it was looked at."""
    if start is None or not await access.is_own(connection, session_id, start.incarnation):
        return None
    return start


async def _read(
    connection: Connection, watched: Watched, place: Place, from_seq: int
) -> Batch | None:
    page = await changes.page(
        connection,
        watched.key,
        place.seq,
        place.change_no,
        limit=limits.FRAME_EVENTS + 1,
        max_bytes=limits.PAGE_BYTES,
    )
    if page is None or page.incarnation != watched.incarnation:
        return None
    items = page.items[: limits.FRAME_EVENTS]
    ends = _ends(page.items, len(items), page.more)
    if page.more and len(items) == len(page.items):
        last_change = max(place.change_no, *(item.change_no for item in items))
        ends[-1] = await _ends_with(connection, watched.key, items[-1], last_change)
    steps: list[Step] = []
    behind = place
    for item, end, later in zip(_gathered(items), ends, _told_later(items), strict=True):
        behind = _behind(behind, item)
        told = item.seq >= from_seq and not later
        events = await _events(connection, watched.key, item) if told else []
        child = item.child_id if item.kind == changes.CHILD else ""
        steps.append(Step(item.seq, behind, events, end and not later, child, item.client_id))
    version = Version(page.incarnation, page.next_seq, page.next_change)
    return Batch(feed_frames.pack(watched, place, steps), page.more, version)


def _beginning(session_id: str, start: Start, from_seq: int) -> Beginning:
    key = access.key_of(session_id)
    place = Place(start.seq, start.change_no, mark(start.seq_time), mark(start.change_time))
    return Beginning(Watched(session_id, key, start.incarnation), place, from_seq)


def _ends(items: list[Happened], count: int, more: bool) -> list[bool]:
    """Behind which of the first items a transaction ends. All messages of one time are of one, and all
    changes of one time; so are a compaction and its summary, and a reminder and the message that it
    appended. Where the page is cut, the items don't tell."""
    ends = []
    for place, item in enumerate(items[:count]):
        if place + 1 == len(items):
            ends.append(not more)
            continue
        following = items[place + 1]
        ends.append(not _together(item, following))
    return ends


def _together(item: Happened, following: Happened) -> bool:
    if bool(following.kind) == bool(item.kind) and following.create_time == item.create_time:
        return True
    if not following.kind:
        return False
    if following.kind == changes.COMPACTED:
        return following.reference == item.seq
    return following.kind == changes.REMINDER and following.seqs == [item.seq] and not item.kind


async def _ends_with(
    connection: Connection, key: SessionKey, item: Happened, last_change: int
) -> bool:
    """Whether a transaction ends with an item that isn't the session's last."""
    if item.summary:
        return False
    if item.kind or item.client_id.startswith("reminder:"):
        page = await changes.page(connection, key, item.seq, last_change, limit=1, max_bytes=0)
        return page is None or not page.items or not _together(item, page.items[0])
    following = await changes.start(connection, key, seq=item.seq + 1, change_no=0)
    return following is None or following.seq_time != item.create_time


def _behind(place: Place, item: Happened) -> Place:
    time = mark(item.create_time)
    if not item.kind:
        return place._replace(seq=item.seq, seq_mark=time)
    seq_mark = place.seq_mark if item.seq == place.seq else 0
    return Place(item.seq, item.change_no, seq_mark, time)


def _told_later(items: list[Happened]) -> list[bool]:
    """Which changes another one of their kind follows, with which they are told. No token may stand between
    them, or who resumes with it wouldn't hear of the earlier ones."""
    following = [*items, None][1:]
    return [
        item.kind in _TOLD_AS_ONE and other is not None and other.kind == item.kind
        for item, other in zip(items, following, strict=True)
    ]


def _gathered(items: list[Happened]) -> Iterator[Happened]:
    """The items; those that may be told as one say what those of their kind right before them say."""
    before: Happened | None = None
    for item in items:
        told = item
        if before is not None and before.kind == item.kind and item.kind in _TOLD_AS_ONE:
            join = _TOLD_AS_ONE[item.kind]
            told = item._replace(reference=join(before.reference, item.reference))
        yield told
        before = told


async def _events(connection: Connection, key: SessionKey, item: Happened) -> list[Encoded]:
    if not item.kind:
        message = StoredMessage(item.seq, item.create_time, item.summary, item.payload)
        return [event_field(_APPENDED, as_field(_APPENDED, encoded(message, _UNMARKED)))]
    if item.kind == changes.UPDATED:
        return await _updates(connection, key, item.seqs or [])
    event = await _change(connection, key, item)
    if event is None:
        return []
    (field, _), *_ = event.ListFields()
    return [event_field(field.number, event.SerializeToString())]


async def _updates(connection: Connection, key: SessionKey, seqs: list[int]) -> list[Encoded]:
    events = []
    for seq in seqs:
        message = await messages.by_seq(connection, key, seq)
        if message is not None:  # else it was cleared
            update = as_field(_UPDATED, encoded(message, _UNMARKED))
            events.append(event_field(_UPDATED, update))
    return events


async def _change(connection: Connection, key: SessionKey, item: Happened) -> rpc.FeedEvent | None:
    """The event of a change; `None` if what it tells of was cleared since."""
    if item.kind in (changes.COMPACTED, changes.REVERTED):
        compaction = await contexts.read_compaction(connection, key, item.reference)
        if compaction is None:
            return None
        told = compaction_out(compaction)
        if item.kind == changes.COMPACTED:
            return rpc.FeedEvent(compacted=told)
        return rpc.FeedEvent(compaction_reverted=told)
    if item.kind in (changes.REWOUND, changes.REWIND_REVERTED):
        rewind = await contexts.read_rewind(connection, key, item.reference)
        if rewind is None:
            return None
        out = rewind_out(rewind)
        if item.kind == changes.REWOUND:
            return rpc.FeedEvent(rewound=out)
        return rpc.FeedEvent(rewind_reverted=out)
    if item.kind == changes.FACTS:
        row = await sessions.read(connection, key)
        if row is None:
            return None
        changed = rpc.SessionChanged(
            session=session_out(row),
            changed_fields=FieldMask(paths=facts.from_bits(item.reference)),
        )
        return rpc.FeedEvent(session_changed=changed)
    if item.kind == changes.CLEARED:
        return rpc.FeedEvent(messages_cleared=rpc.MessagesCleared(first_seq=item.reference))
    if item.kind == changes.CHILD:
        child = rpc.ChildCreated(
            session_id=item.child_id,
            kind=item.child_kind,  # type: ignore[arg-type]
        )
        return rpc.FeedEvent(child_created=child)
    if item.kind == changes.REMINDER:
        return await _reminder_event(connection, key, item)
    if item.kind == changes.ATTACHMENT:
        return await _attachment_event(connection, key, item)
    if item.kind == changes.USAGE:
        row = await sessions.read(connection, key)
        usage = None if row is None else session_usage(row)
        recorded = rpc.UsageRecorded(record_count=item.reference, usage=usage)
        return rpc.FeedEvent(usage_recorded=recorded)
    if item.kind == changes.WRITER:
        return _writer_event(item)
    if item.kind == changes.OFFLOADED:
        moved = await offload.read_record(connection, key, item.reference)
        return None if moved is None else rpc.FeedEvent(messages_offloaded=offload_out(moved))
    return None  # a newer release records it


async def _attachment_event(
    connection: Connection, key: SessionKey, item: Happened
) -> rpc.FeedEvent:
    changed = rpc.AttachmentChanged(
        change=item.child_kind,  # type: ignore[arg-type]
        attachment_id=item.child_id,
    )
    row = await attachments.read(connection, key, item.child_id)
    if row is not None:
        changed.attachment.CopyFrom(attachment_out(row))
        changed.attachment.ClearField("metadata")
    return rpc.FeedEvent(attachment_changed=changed)


def _writer_event(item: Happened) -> rpc.FeedEvent:
    changed = rpc.WriterChanged(
        change=item.child_kind,  # type: ignore[arg-type]
        holder=item.child_id,
    )
    if item.reference:
        changed.expire_time.FromMicroseconds(item.reference)
    return rpc.FeedEvent(writer_changed=changed)


async def _reminder_event(
    connection: Connection, key: SessionKey, item: Happened
) -> rpc.FeedEvent | None:
    found = await reminders.read(connection, key, item.child_id)
    if found is None:
        return None
    changed = rpc.ReminderChanged(
        change=item.child_kind,  # type: ignore[arg-type]
        reminder=reminder_out(*found),
    )
    changed.trigger_time.FromMicroseconds(item.reference)
    return rpc.FeedEvent(reminder_changed=changed)
