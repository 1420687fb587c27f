"""The machinery of `export`: sessions as lines, a page of messages in memory at a time."""

from __future__ import annotations

import errno
import gzip
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Literal, cast

import sessiond
from sessiond import Client
from sessiond.cli.filters import filter_of
from sessiond.cli.openai_files import from_session, line_chunks
from sessiond.cli.terminal import Run

View = Literal["transcript", "context", "all"]

_LIST_PAGE = 200
_MESSAGE_PAGE = 500


def all_ids(run: Run) -> list[str]:
    """The ids of all sessions, sub-agents' and archived ones too, in the order of their ids."""
    ids: set[str] = set()
    for archived in (False, True):
        summaries = run.client.list_sessions(
            filter_of(run, archived=archived, subagents=True),
            order_by="create_time",
            page_size=_LIST_PAGE,
        )
        ids |= {summary.session.id for summary in summaries}
    return sorted(ids)


def export_sessions(
    client: Client, ids: Iterable[str], view: View, stream: BinaryIO
) -> Iterator[str]:
    """Writes a line per session to a stream; yields each id when its line is written.

    A session that is gone by the time of its turn is left out.
    """
    for session_id in ids:
        try:
            line = from_session(client.get_session(session_id, view="full"))
            messages = iter(client.list_messages(session_id, view=view, page_size=_MESSAGE_PAGE))
            first = list(islice(messages, 1))
        except sessiond.SessionNotFound:
            continue
        for chunk in line_chunks(line, chain(first, messages)):
            stream.write(chunk)
        yield session_id


@contextmanager
def destination(path: Path | None) -> Iterator[BinaryIO]:
    """Where to write: stdout without a path, else a file that appears whole or not at all.

    A name that ends in `.gz` makes it gzip, the same bytes for the same contents.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            yield device
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with _replacing(path.resolve()) as raw:
        if path.suffix != ".gz":
            yield raw
            return
        with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
            yield cast(BinaryIO, packed)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
