"""The composition root: makes the parts, starts them in order, and stops them in the reverse."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from sessiond_server import metrics
from sessiond_server.config import Settings, SettingsError
from sessiond_server.embedded import EmbeddedPostgres, EmbeddedPostgresError, default_data_dir
from sessiond_server.feed.drafts import DraftHub
from sessiond_server.feed.hub import Hub
from sessiond_server.feed.session_tails import Tails
from sessiond_server.jobs import settling
from sessiond_server.jobs.attachments import UploadSweep
from sessiond_server.jobs.indexing import IndexJob
from sessiond_server.jobs.offloading import offload_jobs
from sessiond_server.jobs.retention import RetentionJob
from sessiond_server.jobs.runner import Job, JobRunner
from sessiond_server.jobs.settling import SettleJob
from sessiond_server.operations.appending import Appending
from sessiond_server.operations.attaching import AttachmentLimits
from sessiond_server.operations.indexing import Indexer
from sessiond_server.operations.recording import Recording
from sessiond_server.rpc import passages_in, retention_io
from sessiond_server.rpc.access import Access
from sessiond_server.rpc.api_key_service import ApiKeyServicer
from sessiond_server.rpc.attachment_service import AttachmentServicer
from sessiond_server.rpc.compaction_service import CompactionServicer
from sessiond_server.rpc.consumer_service import ConsumerServicer
from sessiond_server.rpc.context_service import ContextServicer
from sessiond_server.rpc.feed_service import FeedLimits, FeedServicer
from sessiond_server.rpc.feed_source import StoreSource
from sessiond_server.rpc.journal_service import JournalServicer
from sessiond_server.rpc.message_service import MessageServicer
from sessiond_server.rpc.reminder_service import ReminderServicer
from sessiond_server.rpc.retention_service import RetentionServicer
from sessiond_server.rpc.search_service import SearchServicer
from sessiond_server.rpc.server import RpcServer
from sessiond_server.rpc.server_service import ServerServicer
from sessiond_server.rpc.session_changes import SessionSource
from sessiond_server.rpc.session_service import SessionServicer
from sessiond_server.rpc.session_watching import SessionWatching
from sessiond_server.rpc.storage_service import StorageServicer
from sessiond_server.rpc.tenant_service import TenantServicer
from sessiond_server.rpc.transfer_service import TransferServicer
from sessiond_server.rpc.usage_service import UsageServicer
from sessiond_server.rpc.writer_service import WriterServicer
from sessiond_server.store.batcher import Batcher
from sessiond_server.store.database import UNAVAILABLE, Database
from sessiond_server.store.drafts import DraftTable
from sessiond_server.store.hints import LocalHints, NotifyHints
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.migrate import SchemaError, migrate

log = structlog.get_logger(__name__)


_GC_ALLOCATIONS = 20_000
"""Between two collections; the default of 700 is passed with every few calls, and finds nothing."""


class StartError(Exception):
    """The service can't start; the text says why."""


@asynccontextmanager
async def postgres(settings: Settings) -> AsyncIterator[tuple[str, EmbeddedPostgres | None]]:
    """The DSN of the settings, or of the service's own Postgres, which then runs. Raises `StartError`."""
    if settings.dsn is not None:
        yield settings.dsn, None
        return
    embedded = EmbeddedPostgres(
        settings.data_dir or default_data_dir(),
        settings={"max_connections": str(settings.connections + settings.append_lanes + 20)},
    )
    try:
        await embedded.start()
    except EmbeddedPostgresError as error:
        raise StartError(str(error)) from error
    try:
        yield embedded.dsn, embedded
    finally:
        await embedded.stop()


@asynccontextmanager
async def _database(dsn: str, settings: Settings) -> AsyncIterator[Database]:
    try:
        await migrate(dsn)
        database = Database(
            dsn,
            connections=settings.connections,
            queue=settings.read_queue,
            lock_timeout=settings.lock_timeout,
        )
        await database.open()
    except SchemaError as error:
        raise StartError(str(error)) from error
    except UNAVAILABLE as error:
        raise StartError(f"the database can't be used: {error}") from error
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _feeds(
    dsn: str, settings: Settings, database: Database, index: IndexJob | None
) -> AsyncIterator[tuple[FeedServicer, LocalHints, Tails]]:
    source, sessions = StoreSource(database), SessionSource(database)
    hub = Hub(source, sweep=settings.feed_sweep, reads=max(1, settings.connections // 2))
    tails = Tails(sessions, hub.patiently, poll=settings.feed_sweep / 2)
    watching = SessionWatching(
        hub,
        tails,
        sessions,
        heartbeat=settings.feed_heartbeat,
        kept=settings.feed_session_days * 86_400,
    )
    bounds = FeedLimits(
        watches=settings.feed_watches,
        watches_per_connection=settings.feed_watches_per_connection,
        buffer_bytes=settings.feed_buffer_bytes,
        heartbeat=settings.feed_heartbeat,
        write_timeout=settings.feed_write_timeout,
    )
    drafts = DraftHub(
        DraftTable(database),
        lambda keys: hints.publish_drafts(keys),
        window=settings.draft_window,
        expiry=settings.draft_expiry,
        limit=settings.feed_drafts,
    )

    def wake(keys: Iterable[SessionKey]) -> None:
        hub.wake(keys)
        drafts.wake(keys)
        if index is not None:
            index.wake(keys)

    hints: LocalHints
    if settings.feed_hints == "notify":
        hints = NotifyHints(dsn, wake, drafts.wake, hub.sweep_now)
    else:
        hints = LocalHints(wake)
    database.on_change = hints.publish
    servicer = FeedServicer(hub, drafts, source, watching, bounds)
    hub.start(servicer.end_stuck)
    drafts.start()
    hints.start()
    tails.start()
    try:
        yield servicer, hints, tails
    finally:
        await tails.stop()
        await hints.stop()
        await drafts.stop()
        await hub.stop()


@asynccontextmanager
async def _batcher(
    dsn: str, settings: Settings, database: Database, hints: LocalHints
) -> AsyncIterator[Batcher]:
    recording = Recording(database)
    appending = Appending(database, recording, max_spawn_depth=settings.max_spawn_depth)
    batcher = Batcher(
        dsn,
        appending.resolve,
        recording.count_added,
        lanes=settings.append_lanes,
        queue_messages=settings.append_queue_messages,
        on_change=hints.publish,
    )
    await batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


def _index(settings: Settings, database: Database) -> IndexJob | None:
    if not settings.search:
        return None
    indexer = Indexer(database, passages_in.searched, settings.search_share)
    return IndexJob(database, indexer, runs=settings.jobs)


@asynccontextmanager
async def _jobs(
    settings: Settings, database: Database, index: IndexJob | None, settle: SettleJob
) -> AsyncIterator[None]:
    jobs: list[Job] = [
        *offload_jobs(settings, database),
        UploadSweep(database, every=settings.attachment_timeout),
        RetentionJob(database, retention_io.stored_rule, settings.retention_interval),
    ]
    if index is not None:
        jobs.append(index)
    runners = [
        JobRunner(database, jobs if settings.jobs else []),
        JobRunner(database, [settle] if settings.jobs else [], lease=settling.LEASE),
    ]
    for runner in runners:
        runner.start()
    try:
        yield
    finally:
        for runner in runners:
            await runner.stop()


def _attachments(settings: Settings) -> AttachmentLimits:
    return AttachmentLimits(
        bytes=settings.attachment_bytes,
        session_count=settings.session_attachments,
        session_bytes=settings.session_attachment_bytes,
        executables=settings.attachment_executables,
        refused_extensions=frozenset(settings.attachment_refused_extensions),
        timeout=settings.attachment_timeout,
        session_uploads=settings.session_uploads,
        upload_expiry=timedelta(seconds=settings.attachment_upload_expiry),
    )


def _listen(
    settings: Settings,
    database: Database,
    batcher: Batcher,
    feeds: FeedServicer,
    index: IndexJob | None,
) -> RpcServer:
    server = RpcServer(
        sessions=SessionServicer(
            database,
            settings.max_spawn_depth,
            settings.search_timeout if settings.search else None,
        ),
        messages=MessageServicer(database, batcher),
        contexts=ContextServicer(database),
        compactions=CompactionServicer(database),
        writers=WriterServicer(database),
        search=SearchServicer(database, settings.search_timeout, enabled=index is not None),
        feeds=feeds,
        attachments=AttachmentServicer(
            database,
            _attachments(settings),
            uploads=settings.attachment_uploads,
            downloads=settings.attachment_downloads,
        ),
        usage=UsageServicer(database, Recording(database)),
        transfers=TransferServicer(
            database, imports=settings.imports, import_timeout=settings.import_timeout
        ),
        reminders=ReminderServicer.on(database, most_waiting=settings.read_queue),
        consumers=ConsumerServicer.on(database, most_waiting=settings.read_queue),
        journal=JournalServicer(database),
        retention=RetentionServicer(database),
        storage=StorageServicer(
            database, settings.offload_segment_messages, None if index is None else index.wake
        ),
        tenants=TenantServicer(database),
        api_keys=ApiKeyServicer(database, enabled=settings.auth == "keys"),
        server=ServerServicer(settings),
        access=Access(database) if settings.auth == "keys" else None,
    )
    try:
        for address in settings.listen:
            server.listen(address, int(settings.unix_socket_mode or "0660", 8))
    except SettingsError as error:
        raise StartError(str(error)) from error
    return server


@contextlib.contextmanager
def _metrics(settings: Settings, *parts: metrics.Part) -> Iterator[None]:
    try:
        with metrics.serve(settings, parts) as address:
            if address is not None:
                log.info("metrics", url=f"http://{address}/metrics")
            yield
    except SettingsError as error:
        raise StartError(str(error)) from error


async def serve(settings: Settings) -> int:
    """Run the service until a signal, or until its Postgres is lost; the exit code."""
    stopping = _stop_signals()
    async with contextlib.AsyncExitStack() as parts:
        dsn, embedded = await parts.enter_async_context(postgres(settings))
        database = await parts.enter_async_context(_database(dsn, settings))
        index = _index(settings, database)
        feeds, hints, tails = await parts.enter_async_context(
            _feeds(dsn, settings, database, index)
        )
        batcher = await parts.enter_async_context(_batcher(dsn, settings, database, hints))
        settle = SettleJob(
            database, settings.settle_rest, settings.feed_session_days * 86_400, tails.wake
        )
        await parts.enter_async_context(_jobs(settings, database, index, settle))
        server = _listen(settings, database, batcher, feeds, index)
        parts.enter_context(_metrics(settings, batcher, server.feeds, settle, server.attachments))
        await server.start()
        gc.freeze()  # what was imported lives as long as the process: not to be walked through again
        gc.set_threshold(_GC_ALLOCATIONS)
        print(f"sessiond is ready on {', '.join(server.addresses)}", flush=True)
        lost = await _wait(stopping, embedded)
        log.info("stopping")
        await server.not_serving()
        await server.stop(settings.shutdown_grace)
    log.info("stopped")
    return 1 if lost else 0


def _stop_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stopping.set)
    return stopping


async def _wait(stopping: asyncio.Event, embedded: EmbeddedPostgres | None) -> bool:
    """Wait for a signal or the loss of the embedded Postgres; whether it was lost."""
    waits: set[asyncio.Task[object]] = {asyncio.create_task(stopping.wait())}
    if embedded is not None:
        waits.add(asyncio.create_task(embedded.wait_exited()))
    _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    if not stopping.is_set():
        log.error("the embedded Postgres is lost")
    return not stopping.is_set()
