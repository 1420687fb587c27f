"""The calls of MessageService."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.MessageService").rpc

APPEND_STREAM = _rpc("AppendStream", v1.AppendStreamRequest, v1.AppendStreamResponse)


@unary(_rpc("AppendMessages", v1.AppendMessagesRequest, v1.AppendMessagesResponse), whole)
def append(
    session_id: str,
    messages: v1.Message | Iterable[v1.Message],
    *,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
    create_session: v1.Session | None = None,
    on_known: values.OnKnown | None = None,
    usage: v1.UsageRecord | None = None,
) -> v1.AppendMessagesRequest:
    """Appends messages with consecutive seqs, all or none; they are durable when it returns.

    Args:
        session_id: The session's id.
        messages: One message or 1–1000, at most 2 MiB encoded together. They aren't changed: one
            without `client_id` gets a UUIDv7 in the copy that is sent. The library's own retries
            send the same ids; whoever calls again after an `Unavailable` or `DeadlineExceeded`
            gives ids of their own, for instance by `with_client_ids`, or may append twice.
        expected_next_seq: If not 0, append only if the first message would get this seq. A
            replay is answered as such before this is looked at.
        expected_revision: If not 0, append only if the session's revision is this: what the model sees
            is as it was.
        writer_token: The token of the writer lease, if one is held.
        create_session: If given, the session is made in the same transaction if it doesn't exist.
        on_known: What to do if some of the messages are stored already and others are new: `refuse` the
            call (the default); `skip` those that are stored; or `skip_any_content`, which doesn't look
            whether they say the same.
        usage: What the turn used, made by `usage_record`: it counts if the call adds a message.

    Returns an `AppendMessagesResponse`: the first and the last seq, the session's `version`,
    whether all of it was stored before, which messages were (`known`), and whether the session was made.

    Raises:
        SessionNotFound: There is no such session, and `create_session` isn't given.
        SessionEnded: It takes no messages.
        SessionDiffers: `create_session` names another owner, source, agent or parent than it has.
        NextSeqMismatch, RevisionMismatch: Somebody else wrote; see its `next_seq`.
        WriterLeaseLost, WriterLeaseHeld: Another writer may write, this one may not.
        ClientIdReused: A message of other content has this client id, be it in the call itself.
        PartialReplay: Some of the messages are stored and some aren't.
        AppendQueueFull: The server is overloaded; nothing was written.
    """
    request = v1.AppendMessagesRequest(
        session_id=session_id,
        messages=values.one_or_many(messages, v1.Message),
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
        create_session=create_session,
        on_known=enum_value(v1.OnKnown, "ON_KNOWN_", on_known),
        usage=usage,
    )
    for message in request.messages:
        if not message.client_id:
            message.client_id = uuid7()
    return request


def with_client_ids(messages: v1.Message | Iterable[v1.Message]) -> list[v1.Message]:
    """Copies of the messages, each with a client id: a UUIDv7 where there was none.

    Appending these again is safe for ever: whatever is stored already isn't stored twice.

    Example:
        messages = sessiond.with_client_ids(sessiond.message("user", "Hi"))
        while True:
            try:
                client.append("chat-1", messages)
                break
            except sessiond.Unavailable:
                time.sleep(1)
    """
    request = append.build("", messages)
    return list(request.messages)


@paged(
    _rpc("ListMessages", v1.ListMessagesRequest, v1.ListMessagesResponse),
    lambda page: page.messages,
)
def list_messages(
    session_id: str,
    *,
    view: values.MessageView | None = None,
    order: values.SortOrder | None = None,
    from_seq: int | None = None,
    start_time: datetime | None = None,
    around_seq: int | None = None,
    to_seq: int | None = None,
    roles: Iterable[values.Role] = (),
    kinds: Iterable[values.MessageKind] = (),
    types: Iterable[str] = (),
    continuations: bool = False,
    page_size: int = 0,
    page_token: str = "",
) -> v1.ListMessagesRequest:
    """Iterates over a session's messages.

    All filters must hold. Pages are read as the iteration goes on.

    Args:
        session_id: The session's id.
        view: `transcript` (the default), what people see; `context`, what the model sees; or `all`.
        order: `ascending` (the default) or `descending`.
        from_seq: Begin at this seq, itself included.
        start_time: Begin at the first message appended at this time or later, or in descending order
            at the last one appended then or earlier. It has a time zone.
        around_seq: Begin half a page before this seq, and go on upwards.
        to_seq: Stop at this seq, itself included: in descending order it is the smaller one. Not with
            `around_seq`.
        roles: Only messages in these roles, of `system`, `developer`, `user`, `assistant`, `tool`.
        kinds: Only messages of these kinds, of `normal`, `summary`, `reminder`.
        types: Only messages with one of these `type`s, which are the application's own words; "" stands for
            those without one.
        continuations: Whether to read the messages of the sessions that this one continues as well, as one
            sequence that ends with its own; each message then has a `session_id`.
        page_size: Messages a page: 0 is 100, at most 1000.
        page_token: Where to begin: a token of a page with the same filters.

    Raises:
        ValueError: More than one of `from_seq`, `start_time` and `around_seq` is given, or `to_seq` with
            `around_seq`.
        SessionNotFound: There is no such session.
    """
    values.only_one(from_seq=from_seq, start_time=start_time, around_seq=around_seq)
    values.only_one(to_seq=to_seq, around_seq=around_seq)
    return v1.ListMessagesRequest(
        session_id=session_id,
        page_size=page_size,
        page_token=page_token,
        view=enum_value(v1.MessageView, "MESSAGE_VIEW_", view),
        order=enum_value(v1.SortOrder, "SORT_ORDER_", order),
        start_time=values.timestamp(start_time),
        roles=[enum_value(v1.Role, "ROLE_", role) for role in roles],
        kinds=[enum_value(v1.MessageKind, "MESSAGE_KIND_", kind) for kind in kinds],
        types=types,
        continuations=continuations,
        **values.given(from_seq=from_seq, around_seq=around_seq, to_seq=to_seq),
    )


list_messages_page = list_messages.page(
    "list_messages_page",
    """Reads one page of `list_messages`, a `ListMessagesResponse`; takes the same arguments.""",
)


@unary(
    _rpc("GetMessage", v1.GetMessageRequest, v1.GetMessageResponse), lambda answer: answer.message
)
def get_message(
    session_id: str, seq: int | None = None, *, client_id: str | None = None
) -> v1.GetMessageRequest:
    """Reads one message by its seq or by its client id.

    Raises:
        ValueError: Both or neither are given.
        MessageNotFound: There is no such message.
    """
    if (seq is None) == (client_id is None):
        raise ValueError("give either seq or client_id")
    which = values.given(seq=seq, client_id=client_id)
    return v1.GetMessageRequest(session_id=session_id, **which)


def message_update(
    seq: int,
    *,
    hidden_from_model: bool | None = None,
    hidden_from_people: bool | None = None,
    kind: values.MessageKind | None = None,
    type: str | None = None,
    token_count: int | None = None,
    elapsed: float | timedelta | None = None,
    finish_reason: str | None = None,
    model: str | None = None,
    turn_index: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    extensions: Mapping[str, bytes] | None = None,
) -> v1.MessageUpdate:
    """A change of a message for `update_messages`: of the facts that are given.

    `elapsed` is in seconds. `extensions` and `metadata` replace all that was there.
    Raises ValueError if there is nothing to change.
    """
    changes = values.given(
        hidden_from_model=hidden_from_model,
        hidden_from_people=hidden_from_people,
        kind=None if kind is None else enum_value(v1.MessageKind, "MESSAGE_KIND_", kind),
        type=type,
        token_count=token_count,
        elapsed=values.duration(elapsed),
        finish_reason=finish_reason,
        model=model,
        turn_index=turn_index,
        metadata=values.struct(metadata),
        extensions=extensions,
    )
    message = v1.Message(seq=seq, **changes)
    return v1.MessageUpdate(message=message, update_mask=values.mask(changes))


@unary(
    _rpc("UpdateMessages", v1.UpdateMessagesRequest, v1.UpdateMessagesResponse),
    whole,
)
def update_messages(
    session_id: str,
    updates: v1.MessageUpdate | Iterable[v1.MessageUpdate],
    *,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
) -> v1.UpdateMessagesRequest:
    """Changes flags and late facts of messages, all or none. What they said stays: parts never change.

    Args:
        session_id: The session's id.
        updates: One change or 1–1000, each of another message; `message_update` makes them.
        expected_next_seq: If not 0, change them only if the session's next seq is this.
        expected_revision: If not 0, change them only if the session's revision is this: what the model sees
            is as it was.
        writer_token: The token of the writer lease, if one is held.

    Returns an `UpdateMessagesResponse`: the messages in the order of the updates, without `parts`,
    `extensions` and `metadata`, the session's `version`, and whether they were so before.

    Raises:
        MessageNotFound: There is no message with one of the seqs.
        NextSeqMismatch, RevisionMismatch: Somebody else wrote.
    """
    return v1.UpdateMessagesRequest(
        session_id=session_id,
        updates=values.one_or_many(updates, v1.MessageUpdate),
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
    )


@unary(
    _rpc("RewindSession", v1.RewindSessionRequest, v1.RewindSessionResponse),
    whole,
)
def rewind(
    session_id: str,
    after_seq: int,
    *,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
    author: str = "",
) -> v1.RewindSessionRequest:
    """Hides what came after a seq; nothing is deleted.

    Args:
        session_id: The session's id.
        after_seq: The last seq that stays; 0 hides everything.
        expected_next_seq: If not 0, rewind only if the session's next seq is this.
        expected_revision: If not 0, rewind only if the session's revision is this: what the model sees
            is as it was.
        writer_token: The token of the writer lease, if one is held.
        author: Who rewinds, or why, for the record. At most 256 characters.

    Returns a `RewindSessionResponse`: the rewind, the session's `version`, and whether it was there
    before.

    Raises:
        NothingToRewind: No message stands after the seq.
        NextSeqMismatch, RevisionMismatch: Somebody else wrote.
    """
    return v1.RewindSessionRequest(
        session_id=session_id,
        after_seq=after_seq,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
        author=author,
    )


@unary(
    _rpc("RevertRewind", v1.RevertRewindRequest, v1.RevertRewindResponse),
    whole,
)
def revert_rewind(
    session_id: str,
    rewind_id: int | None = None,
    *,
    newest: bool = False,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
) -> v1.RevertRewindRequest:
    """Brings back what a rewind hid.

    Args:
        session_id: The session's id.
        rewind_id: Which rewind.
        newest: Instead, the newest that isn't reverted.
        expected_next_seq: If not 0, revert only if the session's next seq is this.
        expected_revision: If not 0, revert only if the session's revision is this: what the model sees
            is as it was.
        writer_token: The token of the writer lease, if one is held.

    Returns a `RevertRewindResponse`: the rewind, the session's `version`, and whether it was reverted
    before.

    Raises:
        ValueError: Both or neither of `rewind_id` and `newest` are given.
        RewindNotFound: There is no such rewind.
        RewindNotRevertible: What it hid would stand partly in a compaction made later.
        NextSeqMismatch, RevisionMismatch: Somebody else wrote.
    """
    return v1.RevertRewindRequest(
        session_id=session_id,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
        **values.exactly_one(rewind_id=rewind_id, newest=newest),
    )


@unary(_rpc("GetRewind", v1.GetRewindRequest, v1.GetRewindResponse), lambda answer: answer.rewind)
def get_rewind(session_id: str, rewind_id: int) -> v1.GetRewindRequest:
    """Reads one rewind, reverted or not.

    Raises:
        RewindNotFound: There is no such rewind.
    """
    return v1.GetRewindRequest(session_id=session_id, rewind_id=rewind_id)


@paged(
    _rpc("ListRewinds", v1.ListRewindsRequest, v1.ListRewindsResponse), lambda page: page.rewinds
)
def list_rewinds(
    session_id: str, *, page_size: int = 0, page_token: str = ""
) -> v1.ListRewindsRequest:
    """Iterates over a session's rewinds, reverted ones too, the newest first.

    Args:
        session_id: The session's id.
        page_size: Rewinds a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListRewindsRequest(session_id=session_id, page_size=page_size, page_token=page_token)


@unary(_rpc("ClearMessages", v1.ClearMessagesRequest, v1.ClearMessagesResponse), whole)
def clear_messages(
    session_id: str,
    *,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
    delete_attachments: bool = False,
) -> v1.ClearMessagesRequest:
    """Removes all messages, compactions and rewinds of a session for good. The numbering goes on.

    Args:
        session_id: The session's id.
        expected_next_seq: If not 0, clear only if the session's next seq is this.
        expected_revision: If not 0, clear only if the session's revision is this: what the model sees
            is as it was.
        writer_token: The token of the writer lease, if one is held.
        delete_attachments: Whether the session's attachments go too.

    Returns a `ClearMessagesResponse`: how many were removed, and the session's `version`.

    Raises:
        NextSeqMismatch, RevisionMismatch: Somebody else wrote.
    """
    return v1.ClearMessagesRequest(
        session_id=session_id,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
        delete_attachments=delete_attachments,
    )


@paged(
    _rpc("ListOpenToolCalls", v1.ListOpenToolCallsRequest, v1.ListOpenToolCallsResponse),
    lambda page: page.open_tool_calls,
)
def list_open_tool_calls(
    session_id: str, *, page_size: int = 0, page_token: str = ""
) -> v1.ListOpenToolCallsRequest:
    """Iterates over the tool calls that wait for their result, the oldest first.

    Args:
        session_id: The session's id.
        page_size: Calls a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListOpenToolCallsRequest(
        session_id=session_id, page_size=page_size, page_token=page_token
    )
