"""The calls of ContextService."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessiond import v1
from sessiond._calls import Service, streamed

_rpc = Service("sessiond.v1.ContextService").rpc


@dataclass(frozen=True)
class Context:
    """What the model sees."""

    totals: v1.ContextTotals
    """Counts, the system prompt, and the session's `version`: its `revision` is what to give as
    `expected_revision`."""
    messages: list[v1.Message]
    """The messages in the context's order: a summary stands where the range that it replaces stood."""


def _collect(pieces: Sequence[v1.GetContextResponse]) -> Context:
    totals = pieces[0].totals if pieces else v1.ContextTotals()
    return Context(totals, [message for piece in pieces for message in piece.messages])


@streamed(_rpc("GetContext", v1.GetContextRequest, v1.GetContextResponse), _collect)
def get_context(
    session_id: str,
    *,
    as_of_seq: int = 0,
    max_context_tokens: int = 0,
    max_context_messages: int = 0,
) -> v1.GetContextRequest:
    """Reads what the model sees, as a `Context`.

    Args:
        session_id: The session's id.
        as_of_seq: As it was right after this message's commit; 0 is now.
        max_context_tokens: If not 0, the newest messages with at most so many tokens, by their
            `token_count`. System messages at the beginning are kept and counted, up to 16.
        max_context_messages: If not 0, at most so many messages, chosen likewise.

    Raises:
        SessionNotFound: There is no such session.
        SeqOutOfRange: `as_of_seq` is beyond the end, or before what was cleared.
    """
    return v1.GetContextRequest(
        session_id=session_id,
        as_of_seq=as_of_seq,
        max_context_tokens=max_context_tokens,
        max_context_messages=max_context_messages,
    )


stream_context = get_context.renamed(
    "stream_context",
    """Reads what the model sees piece by piece, each a `GetContextResponse` of at most 2 MiB: the
    totals in the first, messages in all. Takes the arguments of `get_context`.""",
)
