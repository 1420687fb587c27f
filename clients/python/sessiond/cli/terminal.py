"""What one run of the CLI has: the target, the output, the client, and where errors go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn

import typer
from rich.console import Console

import sessiond
from sessiond import Client
from sessiond._channel import API_KEY_VARIABLE
from sessiond._requests.values import SessionView
from sessiond.cli.patience import GaveUp
from sessiond.cli.render.prose import harmless, one_line
from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_pb2 import Session

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
_WIDTH_IN_A_PIPE = 160
_CANDIDATES = 20
"""How many sessions that fit are counted: one more stands for any number."""


class Failure(Exception):
    """Ends a verb with an error line and exit code 1, or another one."""

    def __init__(self, text: str, code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.code = code


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to the verb, which ends quietly."""
        raise BrokenPipeError


@dataclass
class Run:
    """One run of a verb."""

    target: str
    timeout: float
    _open: list[Client] = field(default_factory=list)

    @cached_property
    def client(self) -> Client:
        """The client, connected at its first call."""
        client = Client(self.target, timeout=self.timeout)
        self._open.append(client)
        return client

    @cached_property
    def console(self) -> Console:
        """Stdout; colours only on a terminal, and wide where there is none."""
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_IN_A_PIPE
        return _Console(width=width, highlight=False, markup=False, emoji=False)

    @cached_property
    def bound(self) -> bool:
        """Whether the API key is bound to an owner: then every filter implies that owner."""
        if not os.environ.get(API_KEY_VARIABLE):
            return False
        try:
            self.client.list_sessions_page(sessiond.session_filter(whole_tenant=True), page_size=1)
        except sessiond.PermissionDenied as error:
            return error.metadata.get("permission") == "owner"
        return False

    def find(self, session: str, *, newest: bool = False, full: bool = False) -> Session:
        """The session that a person means: an id, the unique beginning of one, or exactly this title, or
        the newest of its series."""
        view: SessionView = "full" if full else "basic"
        return self.client.resolve_session(session, exact_title=not newest, view=view)

    def close(self) -> None:
        """Closes the client if it was used; calls under way end with an error."""
        for client in self._open:
            client.close()


def note(text: str) -> None:
    """Says something on stderr that isn't an error."""
    print(harmless(text), file=sys.stderr)


def note_uncounted(messages: Sequence[Message]) -> None:
    """Says how many of the messages have no token count, if any: limits by tokens miss them."""
    count = sum(not message.token_count for message in messages)
    if count:
        of_them = f"{count:,} of {len(messages):,} messages"
        note(f"{of_them} have no token count and count as 0")


def is_terminal() -> bool:
    """Whether there is a person to ask: stdin and stderr are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextmanager
def wall(run: Run) -> Iterator[None]:
    """Turns whatever a user can cause into an error line and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except sessiond.SessiondError as error:
        _fail(run, error)
    except GaveUp as error:
        _fail(run, error.__cause__, "the server didn't come back; the import can be run again. ")
    except Failure as failure:
        note(f"error: {failure}")
        raise typer.Exit(failure.code) from failure
    except BrokenPipeError as error:
        _silence_stdout()
        raise typer.Exit(EXIT_BROKEN_PIPE) from error
    except ValueError as error:
        # What the client library raises for arguments that can't be sent.
        note(f"error: {error}")
        raise typer.Exit(EXIT_FAILED) from error
    except OSError as error:
        note(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        raise typer.Exit(EXIT_FAILED) from error
    except (KeyboardInterrupt, typer.Abort) as error:
        # An abort is Ctrl-C or Ctrl-D at a question, which leaves its line open.
        if isinstance(error, typer.Abort):
            print(file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    finally:
        run.close()


def _fail(run: Run, error: BaseException | None, lead: str = "") -> NoReturn:
    assert isinstance(error, sessiond.SessiondError)
    for line in error_lines(error, run.target, lead):
        note(line)
    raise typer.Exit(EXIT_FAILED) from error


def error_lines(error: sessiond.SessiondError, target: str, lead: str = "") -> Iterator[str]:
    """The lines that explain an error: what and why, then what is wrong with which field."""
    name = error.reason or error.code.name
    if isinstance(error, sessiond.Unavailable) and not error.reason:
        yield f"error: {lead}no server answers at {target} ({name})"
        yield "  start one with `sessiond serve`, or name another with --target or SESSIOND_TARGET"
        return
    if isinstance(error, sessiond.DeadlineExceeded):
        yield f"error: {lead}no answer from {target} in time ({name})"
        yield "  if a server runs there, give it longer with --timeout SECONDS"
        return
    message = error.message
    if isinstance(error, sessiond.SessionAmbiguous):
        found = error.candidate_count or 0
        count = f"more than {found - 1}" if found > _CANDIDATES else str(found)
        message = f"{error.query!r} fits {count} sessions"
    yield f"error: {lead}{one_line(message)} ({name})"
    if isinstance(error, sessiond.Unauthenticated):
        yield f"  set {API_KEY_VARIABLE} to a key; `sessiond keys create` makes one"
    violations = [f"{it.field}: {it.description}" for it in error.field_violations]
    for line in violations:
        if line != message:
            yield f"  {one_line(line)}"
    if isinstance(error, sessiond.SessionAmbiguous):
        yield from (f"  {id}" for id in error.candidates)
    if isinstance(error, sessiond.CompactionSplitsToolCall | sessiond.CompactionOverlap):
        nearest = error.nearest_range
        if nearest:
            yield f"  the nearest safe range: {nearest[0]} {nearest[1]}"


def _silence_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
