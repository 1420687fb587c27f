"""Verbs on a session's attachments: `sessionctl attachments upload`, `ls`, `download`, `mv`, `rm`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.text import Text

import sessiond
from sessiond import v1
from sessiond.cli import arguments, options
from sessiond.cli.output import Format, plain, write_all
from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import one_line
from sessiond.cli.render.stats import size
from sessiond.cli.render.times import relative
from sessiond.cli.saving import saving
from sessiond.cli.terminal import Failure, Run, is_terminal, note
from sessiond.cli.verbs import Output, SessionName, verb

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

_IN_MEMORY = 2**24

Names = Annotated[list[str], typer.Argument(metavar="NAMES…", help="Their names or ids.")]


@verb(
    app,
    "upload",
    "attachments upload trip report.pdf chart.png --to reports",
    "attachments upload trip - --name log.txt < agent.log",
)
def upload(
    run: Run,
    session: SessionName,
    files: Annotated[list[str], typer.Argument(metavar="FILES…", help="Files; - is stdin.")],
    name: Annotated[str, typer.Option(help="Another name, for a single file.")] = "",
    to: Annotated[str, typer.Option("--to", help="The directory in the session.")] = "",
    mime_type: Annotated[
        str, typer.Option("--type", help="As image/png; by the name if left out.")
    ] = "",
    inline: Annotated[bool, typer.Option("--inline", help="To be shown where it is.")] = False,
    metadata: options.Metadata = "{}",
    output: Output = Format.TABLE,
) -> None:
    """Stores files with a session and prints the names that they have there.

    The service makes names safe and numbers those that are taken: report_1.pdf.
    """
    if name and len(files) > 1:
        raise typer.BadParameter("--name is for a single file")
    if "-" in files and not name:
        raise typer.BadParameter("what comes from stdin has no name: give one with --name")
    found = run.find(session)
    facts = arguments.json_object(metadata)
    made: list[v1.Attachment] = []
    for file in files:
        own = name or ("" if file == "-" else Path(file).name)
        with _opened(file) as source:
            answer = run.client.upload_attachment(
                found.id,
                source,
                name=f"{to.rstrip('/')}/{own}" if to and own else own,
                mime_type=mime_type,
                disposition="inline" if inline else "attachment",
                metadata=facts or None,
            )
        made.append(answer.attachment)
        if output is Format.TABLE:
            print(one_line(answer.attachment.name))
    if output is not Format.TABLE:
        write_all([plain(it) for it in made], output)


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    """A file, or what comes from stdin, that can be read again when the connection breaks."""
    if file != "-":
        with Path(file).open("rb") as source:
            yield source
        return
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spooled:
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.seek(0)
        yield spooled


@verb(
    app,
    "ls",
    "attachments ls trip",
    "attachments ls trip reports/ -o json | jq -r '.[].id'",
)
def ls(
    run: Run,
    session: SessionName,
    prefix: Annotated[
        str, typer.Argument(metavar="[PREFIX]", help="Only names that begin so.")
    ] = "",
    output: Output = Format.TABLE,
) -> None:
    """Lists a session's attachments by name, those in directories too."""
    found = run.client.list_attachments(run.find(session).id, path_prefix=prefix, page_size=1000)
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    rows = list(found)
    if not rows:
        return note("no attachments")
    for line in _lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)


def _lines(rows: Sequence[v1.Attachment], width: int) -> Iterator[Text]:
    names, now = ("NAME", "SIZE", "TYPE", "STORED", "ID"), datetime.now(UTC)
    cells = [
        (it.name, size(it.size), it.mime_type, relative(it.create_time, now), it.id) for it in rows
    ]
    return columns(
        names, [[Text(one_line(cell)) for cell in row] for row in cells], width, right=("SIZE",)
    )


@verb(
    app,
    "download",
    "attachments download trip reports/may.pdf --into ~/Downloads",
    "attachments download trip --all --into copy",
    "attachments download trip log.txt --stdout | less",
)
def download(
    run: Run,
    session: SessionName,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMES…]", help="Their names or ids.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="All there are.")] = False,
    into: Annotated[Path, typer.Option("--into", help="The directory to write to.")] = Path(),
    stdout: Annotated[bool, typer.Option("--stdout", help="Write a single one to stdout.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace files.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Writes attachments to files of their names, in their directories, and checks their SHA-256.

    Nothing is ever written outside of the directory. A download that breaks off is gone on with.
    """
    if bool(names) == every or (stdout and len(names or ()) != 1):
        raise typer.BadParameter("give names, or --all; with --stdout a single name")
    id = run.find(session).id
    if stdout:
        run.client.save_attachment(id, _one(run, id, (names or [""])[0]).id, sys.stdout.buffer)
        return
    wanted = list(run.client.list_attachments(id)) if every else _each(run, id, names or [])
    into.mkdir(parents=True, exist_ok=True)
    for it in wanted:
        with saving(into, it.name, replace=force) as file:
            run.client.save_attachment(id, it.id, file)
        if output is Format.TABLE:
            print(one_line(str(into / it.name)))
    if output is not Format.TABLE:
        write_all([{**_object(it), "path": str(into / it.name)} for it in wanted], output)


@verb(app, "mv", "attachments mv trip may.pdf reports/may.pdf")
def mv(
    run: Run,
    session: SessionName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    output: Output = Format.TABLE,
) -> None:
    """Renames an attachment and prints the name that it has then: one that is taken is numbered."""
    id = run.find(session).id
    it = _one(run, id, name)
    renamed = run.client.update_attachment(id, it.id, name=new, etag=it.etag)
    if output is not Format.TABLE:
        return write_all([plain(renamed)], output)
    print(one_line(renamed.name))


@verb(app, "rm", "attachments rm trip reports/may.pdf")
def rm(
    run: Run,
    session: SessionName,
    names: Names,
    yes: options.Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Removes attachments for good. Asks first, unless told not to by --yes."""
    if not yes and not is_terminal():
        raise Failure("rm removes for good and there is no terminal to ask on: give --yes")
    id = run.find(session).id
    removed: list[v1.Attachment] = []
    for it in _each(run, id, names):
        if not yes and not typer.confirm(f"Remove {one_line(it.name)!r} for good?", err=True):
            note(f"kept {it.name}")
            continue
        if run.client.delete_attachment(id, it.id, allow_missing=True):
            removed.append(it)
        if output is Format.TABLE:
            print(f"removed {one_line(it.name)}")
    if output is not Format.TABLE:
        write_all([plain(it) for it in removed], output)


def _each(run: Run, session_id: str, names: Sequence[str]) -> list[v1.Attachment]:
    """The attachments that are meant: all are found, or none is touched."""
    return [_one(run, session_id, name) for name in names]


def _one(run: Run, session_id: str, name: str) -> v1.Attachment:
    """By the name, else by the id."""
    page = run.client.list_attachments_page(session_id, path_prefix=name, page_size=1)
    if name and page.attachments and page.attachments[0].name == name:
        return page.attachments[0]
    try:
        return run.client.get_attachment(session_id, name)
    except (sessiond.AttachmentNotFound, sessiond.InvalidField) as error:
        raise Failure(f"the session has no attachment {name!r}") from error


def _object(it: v1.Attachment) -> dict[str, object]:
    value = plain(it)
    assert isinstance(value, dict)
    return dict(value)
