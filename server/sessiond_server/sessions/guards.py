"""Under which conditions a caller writes (P5), and how far a session has come."""

from __future__ import annotations

from typing import NamedTuple


class Guard(NamedTuple):
    """What a write expects of its session; 0 and empty expect nothing."""

    expected_next_seq: int = 0
    expected_revision: int = 0
    writer_token: str = ""


UNGUARDED = Guard()


class Version(NamedTuple):
    """How far a session has come: the seq of its next message, what the model sees, and how much that is.

    The revision is the next seq plus a count of the changes of the context that aren't appends, so an append
    raises it without writing anything more.
    """

    next_seq: int
    revision: int
    context_token_count: int


class By(NamedTuple):
    """Who does something, for the record: in the caller's words, and by the caller's API key."""

    author: str = ""
    actor: str = ""
