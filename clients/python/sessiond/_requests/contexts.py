"""The calls of ContextService."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sessiond import v1
from sessiond._calls import Service, paged, streamed, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values

_rpc = Service("sessiond.v1.ContextService").rpc


@dataclass(frozen=True)
class Context:
    """What the model sees."""

    totals: v1.ContextTotals
    """Counts, the system prompt, and `next_seq`: what to give as `expected_next_seq`."""
    messages: list[v1.Message]
    """The messages in the context's order: a note stands where the range that it replaces stood."""


def _collect(pieces: Sequence[v1.GetContextResponse]) -> Context:
    totals = pieces[0].totals if pieces else v1.ContextTotals()
    return Context(totals, [message for piece in pieces for message in piece.messages])


@streamed(_rpc("GetContext", v1.GetContextRequest, v1.GetContextResponse), _collect)
def get_context(
    session_id: str, *, as_of_seq: int = 0, max_tokens: int = 0, max_messages: int = 0
) -> v1.GetContextRequest:
    """Reads what the model sees, as a `Context`.

    Args:
        session_id: The session's id.
        as_of_seq: As it was right after this message's commit; 0 is now.
        max_tokens: If not 0, the newest messages with at most so many tokens, by their
            `token_count`. System messages at the beginning are kept and counted, up to 16.
        max_messages: If not 0, at most so many messages, chosen likewise.

    Raises:
        SessionNotFound: There is no such session.
        SeqOutOfRange: `as_of_seq` is beyond the end, or before what was cleared.
    """
    return v1.GetContextRequest(
        session_id=session_id,
        as_of_seq=as_of_seq,
        max_tokens=max_tokens,
        max_messages=max_messages,
    )


stream_context = get_context.renamed(
    "stream_context",
    """Reads what the model sees piece by piece, each a `GetContextResponse` of at most 2 MiB: the
    totals in the first, messages in all. Takes the arguments of `get_context`.""",
)


@unary(_rpc("PlanCompaction", v1.PlanCompactionRequest, v1.PlanCompactionResponse), whole)
def plan_compaction(
    session_id: str,
    *,
    max_context_tokens: int | None = None,
    max_context_messages: int | None = None,
    keep_recent_messages: int = 0,
    note_token_count: int = 0,
    acquire_lease: bool = False,
    lease_holder: str = "",
    lease_ttl: float | timedelta | None = None,
) -> v1.PlanCompactionRequest:
    """Proposes a range that can safely be compacted, or says why there is none.

    Args:
        session_id: The session's id.
        max_context_tokens: What the context should come down to, in tokens.
        max_context_messages: Or in messages.
        keep_recent_messages: How many of the newest messages stay: 0 is 4, at most 10,000.
        note_token_count: How many tokens the note will take, for the goal.
        acquire_lease: Whether to take the compaction lease: nobody else can compact until it ends.
        lease_holder: Who takes it, a name that nobody else uses. Left out, one is made up.
        lease_ttl: How long the lease lasts, in seconds: 1 s to 1 h, 2 min if left out.

    Returns a `PlanCompactionResponse`: `plan` is absent when there is nothing to compact.

    Raises:
        ValueError: Both goals are given.
        CompactionLeaseHeld: Another compactor is at work.

    Example:
        answer = client.plan_compaction("chat-1", max_context_tokens=50_000, acquire_lease=True)
        if answer.HasField("plan"):
            plan = answer.plan
            client.compact(
                "chat-1", plan.from_seq, plan.to_seq, summary, lease_token=answer.lease_token
            )
    """
    goal = values.given(
        max_context_tokens=max_context_tokens, max_context_messages=max_context_messages
    )
    values.only_one(**goal)
    return v1.PlanCompactionRequest(
        session_id=session_id,
        keep_recent_messages=keep_recent_messages,
        note_token_count=note_token_count,
        acquire_lease=acquire_lease,
        lease_holder=lease_holder or (uuid7() if acquire_lease else ""),
        lease_ttl=values.duration(lease_ttl),
        **goal,
    )


@unary(_rpc("CompactSession", v1.CompactSessionRequest, v1.CompactSessionResponse), whole)
def compact(
    session_id: str,
    from_seq: int,
    to_seq: int,
    note: str | v1.Message,
    *,
    tokens_before: int = 0,
    tokens_after: int = 0,
    author: str = "",
    model: str = "",
    lease_token: str = "",
    expected_next_seq: int = 0,
    writer_token: str = "",
) -> v1.CompactSessionRequest:
    """Replaces a range of the context by a note. The log stays as it is.

    Args:
        session_id: The session's id.
        from_seq: The first seq of the range; see `plan_compaction`.
        to_seq: The last seq of the range.
        note: The note's text, or a message, whose role is the system's if it has none. It isn't
            changed: one without `client_id` gets a UUIDv7 in the copy that is sent.
        tokens_before: For the record: the range's tokens. Left out, the sum of its messages'.
        tokens_after: For the record: the note's tokens. Left out, its `token_count`.
        author: For the record: who compacts. At most 256 characters.
        model: For the record: with which model. At most 256 characters.
        lease_token: The token of the compaction lease, if one is held; this ends the lease.
        expected_next_seq: If not 0, compact only if the session's next seq is this.
        writer_token: The token of the writer lease, if one is held.

    Returns a `CompactSessionResponse`: the compaction, whether it was there before, and the
    session's next seq.

    Raises:
        CompactionSplitsToolCall, CompactionOverlap: Not a safe range; see `nearest_range`.
        CompactionRangeEmpty: No message of the context stands in the range.
        CompactionLeaseHeld, CompactionLeaseLost: Another compactor is or was at work.
        NextSeqMismatch: Somebody else wrote.
    """
    request = v1.CompactSessionRequest(
        session_id=session_id,
        from_seq=from_seq,
        to_seq=to_seq,
        note=v1.Message(text=note) if isinstance(note, str) else note,
        tokens_before=tokens_before,
        tokens_after=tokens_after,
        author=author,
        model=model,
        lease_token=lease_token,
        expected_next_seq=expected_next_seq,
        writer_token=writer_token,
    )
    request.note.client_id = request.note.client_id or uuid7()
    return request


@unary(
    _rpc("RevertCompaction", v1.RevertCompactionRequest, v1.RevertCompactionResponse),
    lambda answer: answer.compaction,
)
def revert_compaction(
    session_id: str, note_seq: int, *, expected_next_seq: int = 0, writer_token: str = ""
) -> v1.RevertCompactionRequest:
    """Puts the replaced messages back in the place of the note. Returns the `Compaction`.

    Args:
        session_id: The session's id.
        note_seq: The seq of the compaction's note.
        expected_next_seq: If not 0, revert only if the session's next seq is this.
        writer_token: The token of the writer lease, if one is held.

    Raises:
        CompactionNotFound: The session has no compaction with this note.
    """
    return v1.RevertCompactionRequest(
        session_id=session_id,
        note_seq=note_seq,
        expected_next_seq=expected_next_seq,
        writer_token=writer_token,
    )


@paged(
    _rpc("ListCompactions", v1.ListCompactionsRequest, v1.ListCompactionsResponse),
    lambda page: page.compactions,
)
def list_compactions(
    session_id: str, *, page_size: int = 0, page_token: str = ""
) -> v1.ListCompactionsRequest:
    """Iterates over a session's compactions, reverted ones too, the newest first.

    Args:
        session_id: The session's id.
        page_size: Compactions a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListCompactionsRequest(
        session_id=session_id, page_size=page_size, page_token=page_token
    )


@unary(
    _rpc("ArchiveMessages", v1.ArchiveMessagesRequest, v1.ArchiveMessagesResponse),
    whole,
)
def archive_messages(
    session_id: str, *, before_seq: int = 0, keep_recent_messages: int = 0, author: str = ""
) -> v1.ArchiveMessagesRequest:
    """Moves the beginning of the log into compressed segments. Nothing that can be read changes.

    The border moves up to the nearest place at or before the one asked for where every tool call
    before it has its result. Asking again changes nothing.

    Args:
        session_id: The session's id.
        before_seq: Messages before this seq are archived; 0 is all.
        keep_recent_messages: How many of the newest messages stay as they are in any case.
        author: Who does it, for the record.

    Returns an `ArchiveMessagesResponse`: where the archive ends, how many messages this call moved,
    and whether there is `more` to archive by calling again.

    Example:
        while client.archive_messages("trip", keep_recent_messages=1000).more:
            pass
    """
    return v1.ArchiveMessagesRequest(
        session_id=session_id,
        before_seq=before_seq,
        keep_recent_messages=keep_recent_messages,
        author=author,
    )


@unary(
    _rpc("RestoreMessages", v1.RestoreMessagesRequest, v1.RestoreMessagesResponse),
    whole,
)
def restore_messages(
    session_id: str, *, from_seq: int = 0, author: str = ""
) -> v1.RestoreMessagesRequest:
    """Moves messages back from the archive. Nobody needs to: what reaches into it does so by itself.

    Args:
        session_id: The session's id.
        from_seq: Messages from this seq on are restored, with some before them; 0 is all.
        author: Who does it, for the record.

    Returns a `RestoreMessagesResponse`: where the archive ends, how many messages this call moved,
    and whether there is `more` to restore by calling again.
    """
    return v1.RestoreMessagesRequest(session_id=session_id, from_seq=from_seq, author=author)


@paged(
    _rpc("ListArchives", v1.ListArchivesRequest, v1.ListArchivesResponse),
    lambda page: page.archives,
)
def list_archives(
    session_id: str, *, page_size: int = 0, page_token: str = ""
) -> v1.ListArchivesRequest:
    """Iterates over the moves of a session's messages into the archive and back, the newest first.

    Args:
        session_id: The session's id.
        page_size: Moves a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListArchivesRequest(session_id=session_id, page_size=page_size, page_token=page_token)


@unary(_rpc("ReleaseLease", v1.ReleaseLeaseRequest, v1.ReleaseLeaseResponse), lambda answer: None)
def release_lease(session_id: str, lease_token: str) -> v1.ReleaseLeaseRequest:
    """Gives up a compaction lease. Releasing one that is over changes nothing."""
    return v1.ReleaseLeaseRequest(session_id=session_id, lease_token=lease_token)


@unary(_rpc("AcquireWriter", v1.AcquireWriterRequest, v1.AcquireWriterResponse), whole)
def acquire_writer(
    session_id: str, holder: str, *, ttl: float | timedelta | None = None
) -> v1.AcquireWriterRequest:
    """Takes the writer lease: until it ends only calls with its token can write to the session.

    `writer` takes it, renews it and gives it up by itself.

    Args:
        session_id: The session's id.
        holder: A name that no other process uses. The same holder may acquire again, which makes
            its earlier token useless. At most 256 characters.
        ttl: How long the lease lasts if it isn't renewed, in seconds: 1 s to 1 h, 30 s if left out.

    Returns an `AcquireWriterResponse`: the token, the fencing number, when it ends, and the
    session's next seq, which the new writer must have read up to.

    Raises:
        WriterLeaseHeld: Another writer holds it; see its `holder` and `expire_time`.
    """
    return v1.AcquireWriterRequest(session_id=session_id, holder=holder, ttl=values.duration(ttl))


@unary(_rpc("RenewWriter", v1.RenewWriterRequest, v1.RenewWriterResponse), whole)
def renew_writer(
    session_id: str, writer_token: str, *, ttl: float | timedelta | None = None
) -> v1.RenewWriterRequest:
    """Makes a writer lease last for `ttl` seconds from now: 1 s to 1 h, 30 s if left out.

    Raises:
        WriterLeaseLost: It is over.
    """
    return v1.RenewWriterRequest(
        session_id=session_id, writer_token=writer_token, ttl=values.duration(ttl)
    )


@unary(
    _rpc("ReleaseWriter", v1.ReleaseWriterRequest, v1.ReleaseWriterResponse), lambda answer: None
)
def release_writer(session_id: str, writer_token: str) -> v1.ReleaseWriterRequest:
    """Gives up a writer lease. Releasing one that is over changes nothing."""
    return v1.ReleaseWriterRequest(session_id=session_id, writer_token=writer_token)
