"""The calls of SessionService."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.SessionService").rpc


@unary(
    _rpc("CreateSession", v1.CreateSessionRequest, v1.CreateSessionResponse),
    lambda answer: answer.session,
)
def create_session(
    session_id: str | None = None,
    *,
    owner: str = "",
    source: str = "",
    agent: str = "",
    title: str = "",
    title_source: values.TitleSource | None = None,
    pinned: bool = False,
    archived: bool = False,
    system_prompt: str = "",
    model: str = "",
    config: str = "",
    metadata: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    parent_id: str = "",
    parent_kind: values.ParentKind | None = None,
    spawn_tool_call_id: str = "",
    lifecycle: values.Lifecycle | None = None,
    if_exists: values.IfExists | None = None,
    title_conflict: values.TitleConflict | None = None,
) -> v1.CreateSessionRequest:
    """Makes a session and returns it as it is stored, in the basic view.

    Args:
        session_id: 1–512 bytes of any printable text; `sessiond.session_id` makes one of several texts.
            Left out, a UUIDv7 is made here, so that the call is safe to retry.
        owner: Whose it is.
        source: Where it comes from, for instance `cli` or `telegram`.
        agent: The agent.
        title: At most 100 characters; empty is none.
        title_source: `person` (the default) or `automatic`.
        pinned: Whether it stands first in lists.
        archived: Whether lists leave it out unless asked for it.
        system_prompt: At most 512 KiB. Not a part of the log.
        model: The model that it runs on.
        config: JSON text of at most 64 KiB, kept as it is.
        metadata: A JSON object, at most 64 KiB encoded. Integers beyond 2**53 lose digits.
        labels: At most 64, keys of 1–63 and values of at most 256 characters.
        parent_id: The session that it comes from.
        parent_kind: `subagent` or `continuation`; required with `parent_id`. Forks are made with
            `fork_session`.
        spawn_tool_call_id: The tool call that spawned a sub-agent. At most 256 bytes.
        lifecycle: `ephemeral`, `linked` (the default) or `detached`.
        if_exists: `fail` (the default), or `return` to get a session that has the id as it is.
        title_conflict: What becomes of a title that another session of the owner has: `allow` (the
            default) it, `refuse`, or `number` this one ("x #2").

    Raises:
        SessionExists: The id is in use.
        SessionDiffers: With `if_exists="return"`: the session that has the id has another owner, source,
            agent or parent than is given.
        TitleTaken: Another session of the owner has the title, and `title_conflict` is `refuse`.
        ParentNotFound: There is no such parent.
        SpawnTooDeep: The sub-agent would stand deeper than the server allows.
    """
    session = v1.Session(
        id=session_id or uuid7(),
        owner=owner,
        source=source,
        agent=agent,
        title=title,
        title_source=enum_value(v1.TitleSource, "TITLE_SOURCE_", title_source),
        pinned=pinned,
        archived=archived,
        system_prompt=system_prompt,
        model=model,
        config=config,
        metadata=values.struct(metadata),
        labels=labels,
        parent=_parent(parent_id, parent_kind, spawn_tool_call_id),
        lifecycle=enum_value(v1.Lifecycle, "LIFECYCLE_", lifecycle),
    )
    return v1.CreateSessionRequest(
        session=session,
        if_exists=enum_value(v1.IfExists, "IF_EXISTS_", if_exists),
        title_conflict=enum_value(v1.TitleConflict, "TITLE_CONFLICT_", title_conflict),
        request_id=uuid7(),
    )


def _parent(
    id: str, kind: values.ParentKind | None, spawn_tool_call_id: str
) -> v1.SessionParent | None:
    if not id and kind is None and not spawn_tool_call_id:
        return None
    return v1.SessionParent(
        id=id,
        kind=enum_value(v1.ParentKind, "PARENT_KIND_", kind),
        spawn_tool_call_id=spawn_tool_call_id,
    )


@unary(
    _rpc("GetSession", v1.GetSessionRequest, v1.GetSessionResponse), lambda answer: answer.session
)
def get_session(session_id: str, *, view: values.SessionView | None = None) -> v1.GetSessionRequest:
    """Reads a session, whatever the length of its history, in the same time.

    Args:
        session_id: The session's id.
        view: `basic` (the default) without system prompt, config and metadata, or `full`.

    Raises:
        SessionNotFound: There is no such session.
    """
    return v1.GetSessionRequest(
        session_id=session_id, view=enum_value(v1.SessionView, "SESSION_VIEW_", view)
    )


@unary(_rpc("BatchGetSessions", v1.BatchGetSessionsRequest, v1.BatchGetSessionsResponse), whole)
def batch_get_sessions(
    session_ids: Iterable[str], *, view: values.SessionView | None = None
) -> v1.BatchGetSessionsRequest:
    """Reads up to 100 sessions at once.

    Args:
        session_ids: Their ids.
        view: `basic` (the default) without system prompt, config and metadata, or `full`.

    Returns a `BatchGetSessionsResponse`: the sessions, the ids of which there is none, and those that
    didn't fit an answer, to be asked for again.
    """
    return v1.BatchGetSessionsRequest(
        session_ids=session_ids, view=enum_value(v1.SessionView, "SESSION_VIEW_", view)
    )


@unary(
    _rpc("ResolveSession", v1.ResolveSessionRequest, v1.ResolveSessionResponse),
    lambda answer: answer.session,
)
def resolve_session(
    query: str,
    owner: str = "",
    *,
    exact_title: bool = False,
    view: values.SessionView | None = None,
) -> v1.ResolveSessionRequest:
    """Finds the session that a person means.

    Args:
        query: An id, the beginning of one that no other has, or a title, of whose series ("x",
            "x #2") the newest is returned. At most 256 characters.
        owner: Consider only this owner's sessions.
        exact_title: Take a title for that of the one session which has exactly it.
        view: `basic` (the default) without system prompt, config and metadata, or `full`.

    Raises:
        SessionNotFound: Nothing fits.
        SessionAmbiguous: Several fit; see its `candidates`.
    """
    return v1.ResolveSessionRequest(
        query=query,
        owner=owner,
        exact_title=exact_title,
        view=enum_value(v1.SessionView, "SESSION_VIEW_", view),
    )


@paged(
    _rpc("ListSessions", v1.ListSessionsRequest, v1.ListSessionsResponse),
    lambda page: page.sessions,
)
def list_sessions(
    filter: v1.SessionFilter | None = None,
    *,
    text: str = "",
    order_by: values.SessionOrder | None = None,
    view: values.SessionView | None = None,
    with_total: bool = False,
    page_size: int = 0,
    page_token: str = "",
) -> v1.ListSessionsRequest:
    """Iterates over the summaries of sessions: pinned ones first, then the newest first.

    Pages are read as the iteration goes on.

    Args:
        filter: Which sessions: a `session_filter`. Required, but with an API key that is bound to an owner.
        text: Only with this in their title or in a message: words and phrases as in `search_messages`.
        order_by: `last_activity` (the default) or `create_time`.
        view: `basic` (the default) without system prompt, config and metadata, or `full`.
        with_total: Whether to count them all as well: the `total_size` of `list_sessions_page`.
        page_size: Sessions a page: 0 is 50, at most 200.
        page_token: Where to begin: the `next_page_token` of a page with the same filter.
    """
    return v1.ListSessionsRequest(
        filter=filter,
        text=text,
        order_by=enum_value(v1.SessionOrder, "SESSION_ORDER_", order_by),
        view=enum_value(v1.SessionView, "SESSION_VIEW_", view),
        page_size=page_size,
        page_token=page_token,
        with_total=with_total,
    )


list_sessions_page = list_sessions.page(
    "list_sessions_page",
    """Reads one page of `list_sessions`, a `ListSessionsResponse`; takes the same arguments.""",
)


@unary(
    _rpc("UpdateSession", v1.UpdateSessionRequest, v1.UpdateSessionResponse),
    lambda answer: answer.session,
)
def update_session(
    session_id: str,
    *,
    title: str | None = None,
    title_source: values.TitleSource | None = None,
    pinned: bool | None = None,
    archived: bool | None = None,
    system_prompt: str | None = None,
    model: str | None = None,
    config: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    set_metadata: Mapping[str, Any] | None = None,
    remove_metadata: Iterable[str] = (),
    set_labels: Mapping[str, str] | None = None,
    remove_labels: Iterable[str] = (),
    turn_index: int | None = None,
    etag: str = "",
    title_only_if_unset: bool = False,
    title_conflict: values.TitleConflict | None = None,
) -> v1.UpdateSessionRequest:
    """Changes the facts that are given, all or none, and returns the session in the basic view.

    Args:
        session_id: The session's id.
        title: The new title; empty for none.
        title_source: Who sets it: `person` (the default) or `automatic`. An automatic title never
            replaces a person's.
        pinned: Whether it stands first in lists.
        archived: Whether lists leave it out unless asked for it.
        system_prompt: The new system prompt.
        model: The new model.
        config: The new configuration, JSON text.
        metadata: All of the new metadata; `{}` for none.
        labels: All of the new labels; `{}` for none.
        set_metadata: Fields of the metadata to add or replace, where the others stay.
        remove_metadata: Fields of the metadata to remove.
        set_labels: Labels to add or replace, where the others stay.
        remove_labels: Labels to remove.
        turn_index: The agent's turn.
        etag: Change it only if the session still has this etag.
        title_only_if_unset: Set the title only if there is none.
        title_conflict: What becomes of a title that another session of the owner has: `allow` (the
            default) it, `refuse`, or `number` this one ("x #2").

    Raises:
        ValueError: There is nothing to change.
        EtagMismatch: The session changed since the etag was read.
        TitleTaken: Another session of the owner has the title, and `title_conflict` is `refuse`.
        TitleAlreadySet: A person set the title, or there is one and `title_only_if_unset`.
    """
    changes = values.given(
        title=title,
        pinned=pinned,
        archived=archived,
        system_prompt=system_prompt,
        model=model,
        config=config,
        metadata=values.struct(metadata),
        labels=labels,
        turn_index=turn_index,
    )
    into = values.into("labels", set_labels, remove_labels, whole="labels" in changes)
    into += values.into("metadata", set_metadata, remove_metadata, whole="metadata" in changes)
    mask = values.mask([*changes, *into])
    if set_labels:
        changes["labels"] = dict(set_labels)
    if set_metadata:
        changes["metadata"] = values.struct(set_metadata)
    source = enum_value(v1.TitleSource, "TITLE_SOURCE_", title_source)
    return v1.UpdateSessionRequest(
        session=v1.Session(id=session_id, title_source=source, etag=etag, **changes),
        update_mask=mask,
        title_only_if_unset=title_only_if_unset,
        title_conflict=enum_value(v1.TitleConflict, "TITLE_CONFLICT_", title_conflict),
    )


@unary(_rpc("NextTitle", v1.NextTitleRequest, v1.NextTitleResponse), lambda answer: answer.title)
def next_title(title: str, owner: str = "") -> v1.NextTitleRequest:
    """Proposes the next free title of a series: "x #2" after "x". Reserves nothing.

    Args:
        title: A title, with or without its " #2".
        owner: Whose titles count.
    """
    return v1.NextTitleRequest(title=title, owner=owner)


@unary(_rpc("EndSession", v1.EndSessionRequest, v1.EndSessionResponse), whole)
def end_session(
    session_id: str,
    reason: str = "",
    *,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
) -> v1.EndSessionRequest:
    """Ends a session, which then takes no more messages. The first end wins.

    Args:
        session_id: The session's id.
        reason: Why. At most 256 characters.
        expected_next_seq: If not 0, end it only if its next seq is this.
        expected_revision: If not 0, end it only if its revision is this: what the model sees
            is as it was.
        writer_token: If given, end it only if this is the token of the writer lease.

    Returns an `EndSessionResponse`: the session, whether it was ephemeral and is deleted now, its
    `version`, and whether it had ended before.

    Raises:
        NextSeqMismatch, RevisionMismatch: Somebody wrote to it.
        WriterLeaseLost: The token is no longer good.
    """
    return v1.EndSessionRequest(
        session_id=session_id,
        reason=reason,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
    )


@unary(
    _rpc("ReopenSession", v1.ReopenSessionRequest, v1.ReopenSessionResponse),
    whole,
)
def reopen_session(
    session_id: str,
    *,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
) -> v1.ReopenSessionRequest:
    """Makes an ended session active again.

    The arguments are those of `end_session`. Returns a `ReopenSessionResponse`: the session, its
    `version`, and whether it was active before.
    """
    return v1.ReopenSessionRequest(
        session_id=session_id,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
    )


@unary(_rpc("DeleteSession", v1.DeleteSessionRequest, v1.DeleteSessionResponse), whole)
def delete_session(
    session_id: str,
    *,
    etag: str = "",
    allow_missing: bool = False,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
) -> v1.DeleteSessionRequest:
    """Deletes a session with all that belongs to it, for good.

    Its ephemeral and linked descendants go with it. Detached children, forks and continuations
    stay.

    Args:
        session_id: The session's id.
        etag: Delete it only if the session still has this etag.
        allow_missing: Whether to answer, instead of to raise, if there is no such session.
        expected_next_seq: If not 0, delete it only if its next seq is this.
        expected_revision: If not 0, delete it only if its revision is this: what the model sees
            is as it was.
        writer_token: If given, delete it only if this is the token of the writer lease.

    Returns a `DeleteSessionResponse`: whether there was one, and how much is gone.

    Raises:
        EtagMismatch, NextSeqMismatch, RevisionMismatch: It changed.
        WriterLeaseLost: The token is no longer good.
    """
    return v1.DeleteSessionRequest(
        session_id=session_id,
        etag=etag,
        allow_missing=allow_missing,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
    )


@unary(
    _rpc("ForkSession", v1.ForkSessionRequest, v1.ForkSessionResponse),
    lambda answer: answer.session,
)
def fork_session(
    session_id: str,
    at_seq: int = 0,
    *,
    fork_id: str | None = None,
    title: str = "",
    title_conflict: values.TitleConflict | None = None,
    expected_next_seq: int = 0,
) -> v1.ForkSessionRequest:
    """Makes a session that has the same history up to a seq, and returns it.

    Args:
        session_id: The session to fork.
        at_seq: The last seq to take over, as right after its commit; 0 takes over all as it is now.
            System prompt, model and config are those of then.
        fork_id: The new session's id. Left out, a UUIDv7 is made here.
        title: The new session's title. Its other facts are the forked one's.
        title_conflict: What becomes of a title that another session of the owner has: `allow` (the
            default) it, `refuse`, or `number` this one ("x #2").
        expected_next_seq: If not 0, fork only if the session's next seq is this.

    Raises:
        SeqOutOfRange: `at_seq` is beyond the end.
        NextSeqMismatch: Somebody else wrote.
        SessionExists: `fork_id` is in use.
    """
    return v1.ForkSessionRequest(
        session_id=session_id,
        at_seq=at_seq,
        fork=v1.Session(id=fork_id or uuid7(), title=title),
        title_conflict=enum_value(v1.TitleConflict, "TITLE_CONFLICT_", title_conflict),
        expected_next_seq=expected_next_seq,
        request_id=uuid7(),
    )
