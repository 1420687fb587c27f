"""Verbs that move sessions in and out: import and export."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sessiond.cli import options
from sessiond.cli.exporter import View, all_ids, destination, export_sessions
from sessiond.cli.import_run import ImportRun
from sessiond.cli.importer import ImportOptions, SessionImporter, Summary
from sessiond.cli.moving import Make, Moved, MoveRun, export_native, native, other_store
from sessiond.cli.openai_files import FormatError
from sessiond.cli.output import Format, write
from sessiond.cli.patience import Patience
from sessiond.cli.render.prose import count, harmless
from sessiond.cli.terminal import EXIT_FAILED, Failure, Run, note
from sessiond.cli.verbs import Output, verb

app = typer.Typer()

Tick = Callable[[int], None]


_VIEWS: dict[options.ViewName, View] = {
    options.ViewName.TRANSCRIPT: "transcript",
    options.ViewName.CONTEXT: "context",
    options.ViewName.ALL: "all",
}


@verb(
    app,
    "import",
    "import --format openai sessions.jsonl.gz",
    "import - < sessions.jsonl",
    "import --format native all.jsonl.gz",
    "import --format hermes ~/.hermes/state.db",
    "import --format power-loop sessions.db -o json",
)
def import_(
    run: Run,
    files: Annotated[list[str], typer.Argument(help="Files, gzip or not; - is stdin.")],
    file_format: options.Format = options.FileFormat.OPENAI,
    source: options.Source = "import",
    owner: options.Owner = "",
    update_metadata: options.UpdateMetadata = False,
    retry_for: options.RetryFor = 60.0,
    output: Output = Format.TABLE,
) -> None:
    """Imports sessions, or what is new of them. Safe to repeat and to interrupt at any point.

    openai: each line of a file is a session:
    {"id": ..., "metadata": {...}, "messages": [OpenAI-style messages]}.
    A message is known by its session and position: only what follows the known ones is added.

    native: what `export --format native` wrote, with everything that belongs to a session. A file
    that was cut off or damaged is refused as a whole.

    hermes, power-loop: the SQLite file of such a store, which is only read. The report says what had
    no place of its own and is kept in metadata.

    A session that differs from the one in the store is refused, others go on, and the exit code is 1.
    To openai a session that was written to by other means than such imports is another one.
    """
    if file_format is not options.FileFormat.OPENAI:
        if owner or source != "import" or update_metadata:
            raise typer.BadParameter(
                "owner, source and metadata are those of the file, but for openai"
            )
        _move(run, files, file_format, retry_for, output)
        return
    if sum(name == "-" for name in files) > 1:
        raise typer.BadParameter("stdin can be read only once")
    patience = Patience(retry_for, lambda error: note("the server went away; waiting for it …"))
    facts = ImportOptions(source, owner, update_metadata)
    importer = SessionImporter(run.client, patience, facts)
    total = sum(Path(name).stat().st_size for name in files if name != "-")
    summary = Summary()
    try:
        with _progress(total if "-" not in files else None) as (tick, say):
            summary = _import_files(ImportRun(importer, patience, tick, say), files)
    except KeyboardInterrupt:
        note("interrupted; the import can be run again")
        raise
    _report(summary, output)


def _move(
    run: Run, files: list[str], kind: options.FileFormat, retry_for: float, output: Format
) -> None:
    """Imports whole sessions."""
    patience = Patience(retry_for, lambda error: note("the server went away; waiting for it …"))
    moved = Moved()
    try:
        for name in files:
            with _opened(kind, name, moved) as (make, total), _progress(total) as (tick, say):
                work = MoveRun(run.client, patience, tick, say)
                work.moved = moved
                work.run(make)
    except FormatError as error:
        raise Failure(f"{name}: {error}") from error
    except KeyboardInterrupt:
        note("interrupted; the import can be run again")
        raise
    _tell(moved, output)


def _opened(
    kind: options.FileFormat, name: str, moved: Moved
) -> AbstractContextManager[tuple[Make, int]]:
    if kind is options.FileFormat.NATIVE:
        return native(name)
    if name == "-":
        raise typer.BadParameter("a store of another system is a file")
    return other_store(kind.value, name, moved)


def _tell(moved: Moved, output: Format) -> None:
    if output is Format.TABLE:
        print(
            f"{_told(moved)}; {count(moved.records_added, 'other record')} added,"
            f" {moved.records_known:,} known before"
        )
        for column, times in sorted(moved.in_metadata.items()):
            print(f"  kept in metadata: {column}, {count(times, 'time')}")
        for what, times in sorted(moved.notes.items()):
            print(f"  {what}: {times:,}")
    else:
        write({**vars(moved), "errors": list(moved.errors)}, output)
    if moved.facts_differ:
        note(f"other facts in the store, which were kept: {count(moved.facts_differ, 'session')}")
    if moved.parents_missing:
        note(f"no parent, since theirs isn't there: {count(moved.parents_missing, 'session')}")
    _fail_if_refused(moved.refused)


def _told(done: Moved | Summary) -> str:
    refused = f", {done.refused:,} refused" if done.refused else ""
    return (
        f"{count(done.sessions, 'session')} ({done.created:,} new){refused}:"
        f" {count(done.added, 'message')} added, {done.known:,} known before"
    )


def _fail_if_refused(sessions: int, unreadable: int = 0) -> None:
    told = [f"{count(sessions, 'session')} refused"] if sessions else []
    told += (
        [f"{count(unreadable, 'line or file', 'lines or files')} unreadable"] if unreadable else []
    )
    if told:
        raise Failure(", ".join(told), EXIT_FAILED)


def _import_files(work: ImportRun, files: list[str]) -> Summary:
    for name in files:
        if name == "-":
            work.run("stdin", cast("BufferedReader", sys.stdin.buffer))
            continue
        with Path(name).open("rb") as stream:
            work.run(name, stream)
    return work.summary


def _report(summary: Summary, output: Format) -> None:
    if output is Format.TABLE:
        print(_told(summary))
    else:
        write({**vars(summary), "errors": list(summary.errors)}, output)
    if summary.metadata_differ:
        note(
            "other metadata in the store, which were kept (--update-metadata takes the file's): "
            + count(summary.metadata_differ, "session")
        )
    _fail_if_refused(summary.refused, summary.unreadable)


@verb(
    app,
    "export",
    "export --format openai --file sessions.jsonl.gz",
    "export trip 'Trip to Lisbon' > two.jsonl",
    "export --format native --file all.jsonl.gz",
    "export --format native --continuations 'Trip to Lisbon' > trip.jsonl",
)
def export(
    run: Run,
    sessions: Annotated[
        list[str] | None, typer.Argument(help="Which ones; all if left out.", show_default=False)
    ] = None,
    file_format: options.ToFormat = options.ExportFormat.OPENAI,
    file: options.ToFile = None,
    view: options.OnlyMessages = options.ViewName.TRANSCRIPT,
    continuations: options.WithContinuations = False,
    retry_for: options.RetryFor = 60.0,
) -> None:
    """Exports sessions, as `import` takes them. A file appears when it is whole, and never in part.

    openai: a JSON line each: {"id", "metadata", "messages"}. All sessions come in the order of their
    ids, named ones in the order given. What was imported comes back equal in every field.

    native: everything that belongs to a session, a JSON line for each record, with checksums. What
    is imported into an empty store is equal to what was exported. --view has no meaning there. When
    the server goes away, it waits for it, and goes on behind the sessions that are written.
    """
    if file_format is options.ExportFormat.NATIVE:
        _export_native(run, sessions or [], file, retry_for, continuations=continuations)
        return
    if continuations:
        raise typer.BadParameter("--continuations is for --format native")
    ids = [run.find(name).id for name in sessions] if sessions else all_ids(run)
    written = 0
    with destination(file) as stream, _progress(len(ids) if file else None) as (tick, _):
        for written, _id in enumerate(export_sessions(run.client, ids, _VIEWS[view], stream), 1):
            tick(written)
    if file:
        note(f"{count(written, 'session')} in {file}")


def _export_native(
    run: Run, sessions: list[str], file: Path | None, retry_for: float, *, continuations: bool
) -> None:
    ids = [run.find(name).id for name in sessions]
    if continuations and not ids:
        raise typer.BadParameter("--continuations needs the names of sessions")
    patience = Patience(retry_for, lambda error: note("the server went away; waiting for it …"))
    with destination(file) as stream:
        found = export_native(run, ids, stream, patience, continuations=continuations)
        written = sum(1 for _ in found)
    if file:
        note(f"{count(written, 'session')} in {file}")


@contextmanager
def _progress(total: int | None) -> Iterator[tuple[Tick, Callable[[str], None]]]:
    """How far the work is, and a way to say something: with a bar if stderr is a terminal."""
    if not sys.stderr.isatty() or not total:
        yield (lambda done: None), _say_error
        return
    columns = (TextColumn("{task.percentage:>3.0f} %"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False, markup=False)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield (
            lambda done: bar.update(task, completed=done),
            lambda text: console.print(harmless(f"error: {text}"), soft_wrap=True),
        )


def _say_error(text: str) -> None:
    note(f"error: {text}")
