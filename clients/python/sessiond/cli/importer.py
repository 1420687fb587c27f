"""The machinery of `import`: many sessions at once, each in order, safe to repeat at any point.

A message's client id is its position in the file's session, so a repeated import finds what is
stored, the server compares it with what comes, and only what follows is added. New messages go in
with `expected_next_seq`, so they never land behind something that the file doesn't know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import sessiond
from sessiond import Client
from sessiond.cli.openai_files import FormatError, SessionLine, struct, to_message, to_metadata
from sessiond.cli.patience import PASSING, Patience
from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_pb2 import Session

MAX_BATCH_MESSAGES = 1000
MAX_BATCH_BYTES = 1 << 20
_CLIENT_ID = "import:"
_ATTEMPTS = 100
_FATAL = (
    *PASSING,
    sessiond.Unauthenticated,
    sessiond.PermissionDenied,
    sessiond.Unsupported,
)
_FIELD_INDEX = re.compile(r"messages\[(\d+)\]")


class Refused(Exception):
    """A session can't be imported; the text names it and says why."""


class _Raced(Exception):
    """Another import of the same session is ahead."""


@dataclass(frozen=True)
class ImportOptions:
    """Facts for sessions that the import makes, and whether to replace metadata that differ."""

    source: str = "import"
    owner: str = ""
    update_metadata: bool = False


@dataclass
class Outcome:
    """What became of one session."""

    created: bool = False
    added: int = 0
    known: int = 0
    metadata_differ: bool = False


@dataclass
class Summary:
    """What became of all; `errors` has a line for each refused session, unreadable line or file."""

    sessions: int = 0
    created: int = 0
    refused: int = 0
    unreadable: int = 0
    added: int = 0
    known: int = 0
    metadata_differ: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Counts a session in."""
        self.sessions += 1
        self.created += outcome.created
        self.added += outcome.added
        self.known += outcome.known
        self.metadata_differ += outcome.metadata_differ


class SessionImporter:
    """Imports single sessions; may be used by several threads, one session each at a time."""

    def __init__(self, client: Client, patience: Patience, options: ImportOptions) -> None:
        self._client = client
        self._patience = patience
        self._options = options

    def run(self, line: SessionLine) -> Outcome:
        """Imports a session, or what is missing of it. Raises Refused, GaveUp and Stopped.

        Errors that aren't about this session are raised as they are.
        """
        messages = _messages(line)
        try:
            session, outcome = self._session(line)
            self._append(line.id, session, messages, outcome)
        except sessiond.ClientIdReused as error:
            raise Refused(_differs(line.id, error)) from error
        except _FATAL:
            raise
        except sessiond.SessiondError as error:
            raise Refused(f"session {line.id}: {_explained(error)}") from error
        return outcome

    def _session(self, line: SessionLine) -> tuple[Session, Outcome]:
        try:
            metadata = to_metadata(line)
        except FormatError as error:
            raise Refused(f"session {line.id}: {error}") from error
        session = self._patience.call(
            lambda: self._client.create_session(
                line.id,
                source=self._options.source,
                owner=self._options.owner,
                metadata=metadata,
                if_exists="return",
            )
        )
        found = self._patience.call(lambda: self._client.get_session(line.id, view="full"))
        differ = found.metadata != struct(metadata)
        if differ and self._options.update_metadata:
            self._patience.call(lambda: self._client.update_session(line.id, metadata=metadata))
        outcome = Outcome(metadata_differ=differ and not self._options.update_metadata)
        return session, outcome

    def _append(
        self, session_id: str, session: Session, messages: list[Message], outcome: Outcome
    ) -> None:
        outcome.created = session.next_seq == 1
        for _ in range(_ATTEMPTS):
            try:
                outcome.added += self._append_missing(session_id, session.next_seq, messages)
            except (sessiond.NextSeqMismatch, _Raced):
                session = self._patience.call(lambda: self._client.get_session(session_id))
            else:
                outcome.known = len(messages) - outcome.added
                return
        raise Refused(f"session {session_id}: somebody else writes to it all the time")

    def _append_missing(self, session_id: str, next_seq: int, messages: list[Message]) -> int:
        """Lets the server compare what it knows, and appends the rest; how many these were."""
        known = 0 if next_seq == 1 else self._known_count(session_id, len(messages))
        position = 0
        for batch in batches(messages[:known]):
            self._send(session_id, batch, position, 0)
            position += len(batch)
        if next_seq != 1 and known < len(messages):
            next_seq = self._end(session_id, known)
        for batch in batches(messages[known:]):
            self._send(session_id, batch, position, next_seq)
            position += len(batch)
            next_seq += len(batch)
        return len(messages) - known

    def _send(self, session_id: str, batch: list[Message], position: int, expected: int) -> None:
        def append() -> None:
            self._client.append(session_id, batch, expected_next_seq=expected, on_known="skip")

        try:
            self._patience.call(append)
        except sessiond.InvalidRequest as error:
            raise Refused(f"session {session_id}: {_explained(error, position)}") from error

    def _known_count(self, session_id: str, count: int) -> int:
        """How many of the messages are stored: batches go in order, so these are the first ones."""
        if count == 0 or self._is_known(session_id, count - 1):
            return count
        low, high = 0, count - 1
        while low < high:
            middle = (low + high) // 2
            if self._is_known(session_id, middle):
                low = middle + 1
            else:
                high = middle
        return low

    def _is_known(self, session_id: str, position: int) -> bool:
        def read() -> bool:
            try:
                self._client.get_message(session_id, client_id=client_id(position))
            except sessiond.MessageNotFound:
                return False
            return True

        return self._patience.call(read)

    def _end(self, session_id: str, known: int) -> int:
        """The seq at which the file's next message belongs; refuses if others wrote meanwhile."""
        next_seq = self._patience.call(lambda: self._client.get_session(session_id)).next_seq
        newest = self._patience.call(lambda: self._newest_in_transcript(session_id))
        if _position(newest) >= known:
            raise _Raced
        if newest and not known:
            raise Refused(
                f"session {session_id}: the store has one of this id, with messages that no import of"
                " this format brought; nothing of the file is added to it"
            )
        if newest != (client_id(known - 1) if known else ""):
            raise Refused(
                f"session {session_id}: it went on differently in the store after message {known} "
                "of the file; the file's further messages aren't added"
            )
        return next_seq

    def _newest_in_transcript(self, session_id: str) -> str:
        newest = self._client.list_messages(
            session_id, view="transcript", order="descending", page_size=1
        )
        return next((message.client_id for message in newest), "")


def client_id(position: int) -> str:
    """The client id of the message at a position, from 0, in a file's session."""
    return f"{_CLIENT_ID}{position}"


def _position(id: str) -> int:
    """The position that a client id of an import names; -1 for others."""
    digits = id.removeprefix(_CLIENT_ID)
    return int(digits) if id.startswith(_CLIENT_ID) and digits.isdecimal() else -1


def batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """The messages in their order, in batches that the API takes; a huge one stands alone."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        weight = message.ByteSize()
        if batch and (len(batch) == MAX_BATCH_MESSAGES or size + weight > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += weight
    if batch:
        yield batch


def _messages(line: SessionLine) -> list[Message]:
    messages = []
    for position, value in enumerate(line.messages):
        try:
            message = to_message(value)
        except FormatError as error:
            raise Refused(f"session {line.id}, message {position}: {error}") from error
        message.client_id = client_id(position)
        messages.append(message)
    return messages


def _differs(session_id: str, error: sessiond.ClientIdReused) -> str:
    position = error.metadata.get("client_id", "").removeprefix(_CLIENT_ID)
    return (
        f"session {session_id}, message {position}: it differs from the one imported before"
        f" ({error.reason})"
    )


def _explained(error: sessiond.SessiondError, position: int = 0) -> str:
    """An error's text; the positions of messages are those in the file, not in the batch."""
    fields = "; ".join(f"{it.field}: {it.description}" for it in error.field_violations)
    fields = _FIELD_INDEX.sub(lambda found: f"messages[{int(found[1]) + position}]", fields)
    return f"{error.message}{' — ' if fields else ''}{fields} ({error.reason or error.code.name})"
