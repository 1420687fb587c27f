"""ReminderService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sessiond.v1 import reminder_pb2 as pb
from sessiond.v1 import reminder_service_pb2 as rpc
from sessiond_server.errors import PageTokenInvalid
from sessiond_server.operations import reading, reminders
from sessiond_server.operations.due import DueAlarm
from sessiond_server.operations.reminders import Claiming, Claims, Completion, Failure
from sessiond_server.rpc import access, checks, limits, page_tokens, reminders_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.guards_io import version_out
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.reminders_io import reminder_out
from sessiond_server.rpc.session_filters import filter_in
from sessiond_server.rpc.times import timestamp
from sessiond_server.rpc.waiting import until_found
from sessiond_server.store import reminders as stored
from sessiond_server.store.database import Database
from sessiond_server.store.reminders import Listing, Place, ReminderRow

_STATES = frozenset(pb.ReminderState.values())
_FIRST_PLACE = Place(0, datetime.min.replace(tzinfo=UTC), UUID(int=0), "")


@dataclass(slots=True)
class ReminderServicer:
    """Reminders over gRPC."""

    database: Database
    alarm: DueAlarm[str]
    """For each tenant."""

    @classmethod
    def on(cls, database: Database, *, most_waiting: int) -> ReminderServicer:
        """A servicer with an alarm of its own."""

        async def look(tenant: str) -> tuple[bool, float | None]:
            async with database.connection() as connection:
                return await stored.next_due(connection, tenant)

        return cls(database, DueAlarm(look, limit=most_waiting))

    def close_streams(self) -> None:
        """Let no call wait any more."""
        self.alarm.close()

    def _news(self) -> None:
        tenant = access.tenant()
        self.alarm.news(lambda waited: waited == tenant)

    async def CreateReminder(
        self, request: rpc.CreateReminderRequest, _: Context
    ) -> rpc.CreateReminderResponse:
        created = await reminders.create(self.database, reminders_io.new_reminder(request))
        self._news()
        return rpc.CreateReminderResponse(
            reminder=reminder_out(created.row, created.now),
            created=created.created,
            replaced_count=created.replaced,
        )

    async def GetReminder(
        self, request: rpc.GetReminderRequest, _: Context
    ) -> rpc.GetReminderResponse:
        session_id, reminder_id = _named(request.session_id, request.reminder_id)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            row, now = await reminders.read(connection, session_id, key, reminder_id)
        return rpc.GetReminderResponse(reminder=reminder_out(row, now))

    async def ListReminders(
        self, request: rpc.ListRemindersRequest, _: Context
    ) -> rpc.ListRemindersResponse:
        size = checks.page_size(request, limits.RECORD_PAGE)
        with Checks() as check:
            if request.session_id:
                check.session_id("session_id", request.session_id)
            named = bool(request.session_id)
            sessions = filter_in(request.filter, "filter", check, named=named)
            check.enum("state", request.state, _STATES)
        call = page_tokens.call_of("ListReminders", request)
        after = _place(request.page_token, call) if request.page_token else _FIRST_PLACE
        key = access.key_of(request.session_id) if request.session_id else None
        wanted = Listing(key, sessions, request.state)
        async with self.database.connection() as connection:
            if key is not None:
                await reading.head_of(connection, request.session_id, key)
            rows, now, more = await stored.page(connection, wanted, after, size, limits.PAGE_BYTES)
        return rpc.ListRemindersResponse(
            reminders=[reminder_out(row, now) for row in rows if now is not None],
            next_page_token=page_tokens.encode(_place_of(rows[-1]), call) if more else "",
        )

    async def CancelReminder(
        self, request: rpc.CancelReminderRequest, _: Context
    ) -> rpc.CancelReminderResponse:
        session_id, reminder_id = _named(request.session_id, request.reminder_id)
        key = access.key_of(session_id)
        row, now = await reminders.cancel(self.database, session_id, key, reminder_id)
        return rpc.CancelReminderResponse(reminder=reminder_out(row, now))

    async def SkipReminder(
        self, request: rpc.SkipReminderRequest, _: Context
    ) -> rpc.SkipReminderResponse:
        session_id, reminder_id = _named(request.session_id, request.reminder_id)
        time = None
        if request.HasField("trigger_time"):
            with Checks() as check:
                check.timestamp("trigger_time", request.trigger_time)
            time = checks.moment(request.trigger_time)
        key = access.key_of(session_id)
        row, now = await reminders.skip(self.database, session_id, key, reminder_id, time)
        return rpc.SkipReminderResponse(reminder=reminder_out(row, now))

    async def ClaimReminders(
        self, request: rpc.ClaimRemindersRequest, context: Context
    ) -> rpc.ClaimRemindersResponse:
        wanted, wait = _claiming(request)

        async def claim() -> Claims:
            return await reminders.claim(self.database, wanted)

        found = await until_found(claim, self.alarm, wanted.sessions.tenant, wait, context)
        return rpc.ClaimRemindersResponse(claims=map(reminders_io.claim_out, found.claims))

    async def CompleteReminder(
        self, request: rpc.CompleteReminderRequest, _: Context
    ) -> rpc.CompleteReminderResponse:
        completed = await reminders.complete(self.database, _completion(request))
        self._news()
        return rpc.CompleteReminderResponse(
            reminder=reminder_out(completed.row, completed.now),
            replayed=completed.replayed,
            message_seq=completed.seq,
            version=version_out(completed.version),
        )

    async def FailReminder(
        self, request: rpc.FailReminderRequest, _: Context
    ) -> rpc.FailReminderResponse:
        row, now, replayed = await reminders.fail(self.database, _failure(request))
        self._news()
        return rpc.FailReminderResponse(reminder=reminder_out(row, now), replayed=replayed)

    async def ExtendReminderClaim(
        self, request: rpc.ExtendReminderClaimRequest, _: Context
    ) -> rpc.ExtendReminderClaimResponse:
        session_id, reminder_id = _named(request.session_id, request.reminder_id)
        with Checks() as check:
            check.required("claim_token", request.claim_token)
        given = request.HasField("lease_ttl")
        default = 0 if request.give_up else limits.CLAIM_LEASE_SECONDS
        expire_time = await reminders.extend(
            self.database,
            session_id,
            access.key_of(session_id),
            reminder_id,
            request.claim_token,
            checks.lease_ttl(request.lease_ttl, given, default, "lease_ttl"),
            give_up=request.give_up,
        )
        self._news()
        return rpc.ExtendReminderClaimResponse(expire_time=timestamp(expire_time))


def _named(session_id: str, reminder_id: str) -> tuple[str, str]:
    with Checks() as check:
        check.session_id("session_id", session_id)
        check.reminder_id("reminder_id", reminder_id)
    return session_id, reminder_id


def _claiming(request: rpc.ClaimRemindersRequest) -> tuple[Claiming, float]:
    """What to claim, and how many seconds to wait for it."""
    wait = timedelta()
    with Checks() as check:
        check.text("holder", request.holder)
        sessions = filter_in(request.filter, "filter", check)
        check.not_negative("max_count", request.max_count)
        check.count("types", len(request.types), limits.REMINDER_TYPES)
        for place, type in enumerate(request.types[: limits.REMINDER_TYPES]):
            check.text(f"types[{place}]", type)
        if request.HasField("wait"):
            wait = check.span("wait", request.wait, limits.WAIT_SECONDS)
    default = limits.CLAIM_LEASE_SECONDS
    ttl = checks.lease_ttl(request.lease_ttl, request.HasField("lease_ttl"), default, "lease_ttl")
    one, most = limits.CLAIMS
    claiming = Claiming(
        sessions=sessions,
        holder=request.holder,
        types=list(dict.fromkeys(request.types)),
        limit=min(request.max_count or one, most),
        max_bytes=limits.PAGE_BYTES,
        ttl=ttl,
    )
    return claiming, wait.total_seconds()


def _completion(request: rpc.CompleteReminderRequest) -> Completion:
    session_id, reminder_id = _named(request.session_id, request.reminder_id)
    given = request.message if request.HasField("message") else None
    with Checks() as check:
        check.required("claim_token", request.claim_token)
        guard = check.guard(request)
        if given is not None:
            reminders_io.complete(given, "message", check)
    appended = request.append_message or given is not None
    return Completion(
        session_id,
        access.key_of(session_id),
        reminder_id,
        request.claim_token,
        guard,
        (lambda row: reminders_io.message_row(row, given)) if appended else None,
    )


def _failure(request: rpc.FailReminderRequest) -> Failure:
    session_id, reminder_id = _named(request.session_id, request.reminder_id)
    delay = None
    with Checks() as check:
        check.required("claim_token", request.claim_token)
        check.error("error", request.error)
        if request.HasField("retry_delay"):
            delay = check.span("retry_delay", request.retry_delay, limits.RETRY_DELAY_SECONDS)
    key, error = access.key_of(session_id), request.error.encode()
    return Failure(session_id, key, reminder_id, request.claim_token, error, delay)


def _place_of(row: ReminderRow) -> page_tokens.Place:
    return [row.state, row.due_time.isoformat(), str(row.session_key), row.reminder_id]


def _place(token: str, call: bytes) -> Place:
    state, time, key, reminder_id = page_tokens.decode(token, call, int, str, str, str)
    try:
        due_time = datetime.fromisoformat(str(time))
        place = Place(int(state or 0), due_time, UUID(str(key)), str(reminder_id))
    except ValueError as error:
        raise PageTokenInvalid from error
    if due_time.tzinfo != UTC or not 0 <= place.state < 2**15:
        raise PageTokenInvalid
    return place
