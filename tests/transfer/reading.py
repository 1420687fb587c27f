"""Everything that a user can read of a session, for comparisons."""

from __future__ import annotations

import hashlib
from typing import Any

from sessiond import Client, v1

DERIVED = ("incarnation", "etag")


def everything(client: Client, session_id: str) -> dict[str, Any]:
    """All of it but what no two stores have in common."""
    session = client.get_session(session_id, view="full")
    for field in DERIVED:
        session.ClearField(field)  # type: ignore[arg-type]
    last = session.next_seq - 1
    return {
        "session": session,
        "all": _whole(client.list_messages(session_id, view="all")),
        "transcript": _whole(client.list_messages(session_id, view="transcript")),
        "context": _whole(client.list_messages(session_id, view="context")),
        "contexts": [
            (found.totals.SerializeToString(deterministic=True), _whole(found.messages))
            for seq in range(session.first_seq, last + 1)
            for found in [client.get_context(session_id, as_of_seq=seq)]
        ],
        "compactions": list(client.list_compactions(session_id)),
        "rewinds": list(client.list_rewinds(session_id)),
        "open calls": list(client.list_open_tool_calls(session_id)),
        "journal": list(client.list_journal(session_id)),
        "cursors": [(w.consumer_id, w.seq) for w in client.list_cursors(session_id)],
        "reminders": list(client.list_reminders(session_id)),
        "usage": client.get_usage(session_id),
        "turns": list(client.list_usage(session_id, group_by="turn")),
        "days": list(client.list_usage(session_id, group_by="day_and_model")),
        "attachments": [
            (it, hashlib.sha256(client.read_attachment(session_id, it.id)).digest())
            for it in client.list_attachments(session_id)
        ],
        "feed": told(client, session_id),
    }


def _whole(messages: Any) -> list[bytes]:
    """Messages by their bytes: an import must not change a single one."""
    return [message.SerializeToString(deterministic=True) for message in messages]


def told(client: Client, session_id: str) -> list[tuple[str, bytes]]:
    """What a watch from the beginning says until it has caught up, without tokens."""
    found: list[tuple[str, bytes]] = []
    for event in client.watch(session_id):
        if event.kind == "caught_up":
            break
        found.append((event.kind, _value(event.value)))
    return found


def _value(value: Any) -> bytes:
    copy = type(value)()
    copy.CopyFrom(value)
    if isinstance(copy, v1.SessionChanged):
        for field in DERIVED:
            copy.session.ClearField(field)  # type: ignore[arg-type]
    if isinstance(copy, v1.AttachmentChanged):
        copy.attachment.ClearField("etag")
    return bytes(copy.SerializeToString(deterministic=True))
