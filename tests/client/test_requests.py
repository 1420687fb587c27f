"""What the arguments of the methods become in requests."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

import sessiond
from sessiond import v1
from sessiond._requests import compactions, journal, messages, sessions, usage

HELLO = sessiond.message("user", "hello")


def test_create_session_takes_every_fact() -> None:
    request = sessions.create_session.build(
        "a",
        owner="ann",
        title="T",
        title_source="automatic",
        config='{"t": 1.0}',
        metadata={"a": [1, None]},
        labels={"k": "v"},
        parent_id="p",
        parent_kind="subagent",
        spawn_tool_call_id="call",
        lifecycle="ephemeral",
        if_exists="return",
    )
    session = request.session
    assert (session.id, session.owner, session.title) == ("a", "ann", "T")
    assert session.config == '{"t": 1.0}'
    assert session.title_source == v1.TitleSource.TITLE_SOURCE_AUTOMATIC
    assert session.parent == v1.SessionParent(
        id="p", kind=v1.ParentKind.PARENT_KIND_SUBAGENT, spawn_tool_call_id="call"
    )
    assert session.lifecycle == v1.Lifecycle.LIFECYCLE_EPHEMERAL
    assert request.if_exists == v1.IfExists.IF_EXISTS_RETURN
    assert dict(session.labels) == {"k": "v"}
    assert list(session.metadata["a"]) == [1, None]  # type: ignore[arg-type]


def test_ids_are_filled_in_so_that_retries_are_safe() -> None:
    one, two = sessions.create_session.build(), sessions.create_session.build()
    assert one.request_id
    assert one.session.id
    assert (one.request_id, one.session.id) != (two.request_id, two.session.id)
    assert not one.session.HasField("parent")
    fork = sessions.fork_session.build("a", 3)
    assert fork.fork.id
    assert fork.request_id
    assert compactions.plan_compaction.build("a", acquire_lease=True).holder
    assert not compactions.plan_compaction.build("a").holder


def test_update_session_names_what_is_given() -> None:
    request = sessions.update_session.build(
        "a", title="", pinned=False, archived=True, metadata={}, config="", etag="e"
    )
    paths = ["title", "pinned", "archived", "config", "metadata"]
    assert list(request.update_mask.paths) == paths
    assert request.session.id == "a"
    assert request.session.etag == "e"
    request = sessions.update_session.build(
        "a", set_labels={"a.b": "1"}, remove_labels=["c"], remove_metadata=["`"]
    )
    assert list(request.update_mask.paths) == ["labels.`a.b`", "labels.`c`", "metadata.````"]
    assert dict(request.session.labels) == {"a.b": "1"}
    with pytest.raises(ValueError, match="not both"):
        sessions.update_session.build("a", labels={}, set_labels={"a": "1"})
    with pytest.raises(ValueError, match="to set and to remove: a"):
        sessions.update_session.build("a", set_labels={"a": "1"}, remove_labels=["a"])
    with pytest.raises(ValueError, match="nothing to change"):
        sessions.update_session.build("a", etag="e")


def test_lists_take_names_and_values() -> None:
    since = datetime(2026, 1, 2, tzinfo=UTC)
    wanted = sessiond.session_filter(
        owner="",
        states=["active", v1.SessionState.SESSION_STATE_ENDED],
        active_before=since,
        labels={"a": "b"},
    )
    request = sessions.list_sessions.build(wanted, order_by="create_time")
    assert request.filter == wanted
    assert (wanted.HasField("owner"), wanted.HasField("archived")) == (True, False)
    assert list(wanted.states) == [1, 2]
    assert wanted.last_activity_time.end_time.ToDatetime(UTC) == since
    assert not wanted.last_activity_time.HasField("start_time")
    assert not wanted.HasField("create_time")
    assert request.order_by == v1.SessionOrder.SESSION_ORDER_CREATE_TIME
    listed = messages.list_messages.build("a", view="all", roles=["tool"], kinds=["summary"])
    assert listed.WhichOneof("start") is None
    assert (listed.view, list(listed.roles), list(listed.kinds)) == (3, [5], [2])
    assert messages.list_messages.build("a", from_seq=0).WhichOneof("start") == "from_seq"


def test_arguments_that_mean_nothing_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="none of transcript, context, all"):
        messages.list_messages.build("a", view="everything")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="none of"):
        messages.list_messages.build("a", view="unspecified")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="from_seq and around_seq exclude each other"):
        messages.list_messages.build("a", from_seq=1, around_seq=2)
    with pytest.raises(ValueError, match="to_seq and around_seq exclude each other"):
        messages.list_messages.build("a", to_seq=3, around_seq=2)
    assert messages.list_messages.build("a", from_seq=1, to_seq=3).to_seq == 3
    assert not messages.list_messages.build("a").HasField("to_seq")
    with pytest.raises(ValueError, match="time zone"):
        messages.list_messages.build("a", start_time=datetime(2026, 1, 2))
    with pytest.raises(ValueError, match="either seq or client_id"):
        messages.get_message.build("a")
    with pytest.raises(ValueError, match="exclude each other"):
        compactions.plan_compaction.build("a", max_context_tokens=1, max_context_messages=1)
    with pytest.raises(ValueError, match="nothing to change"):
        sessiond.message_update(3)


def test_P4_append_fills_in_client_ids_in_a_copy() -> None:
    mine = v1.Message(role=v1.Role.ROLE_USER, client_id="mine")
    request = messages.append.build("a", [HELLO, mine, HELLO])
    ids = [message.client_id for message in request.messages]
    assert ids[1] == "mine"
    assert len(set(ids)) == 3
    assert not HELLO.client_id
    assert len(messages.append.build("a", HELLO).messages) == 1
    assert len(messages.append.build("a", (m for m in [HELLO])).messages) == 1


def test_P4_append_says_what_to_do_with_known_messages() -> None:
    assert messages.append.build("a", HELLO).on_known == v1.OnKnown.ON_KNOWN_UNSPECIFIED
    for name in ("refuse", "skip", "skip_any_content"):
        request = messages.append.build("a", HELLO, on_known=name)
        assert request.on_known == v1.OnKnown.Value(f"ON_KNOWN_{name.upper()}")


def test_P4_with_client_ids_makes_calling_again_safe() -> None:
    first = sessiond.with_client_ids([HELLO, HELLO])
    assert messages.append.build("a", first) == messages.append.build("a", first)
    assert sessiond.with_client_ids(first) == first


def test_append_can_make_the_session() -> None:
    request = messages.append.build("a", HELLO, create_session=v1.Session(owner="ann"))
    assert request.create_session.owner == "ann"
    assert not messages.append.build("a", HELLO).HasField("create_session")


def test_message_update_names_what_is_given() -> None:
    update = sessiond.message_update(
        3,
        hidden_from_model=True,
        type="plan",
        elapsed=timedelta(seconds=1.5),
        extensions={"a": b"\xff"},
    )
    assert list(update.update_mask.paths) == ["hidden_from_model", "type", "elapsed", "extensions"]
    assert update.message.seq == 3
    assert update.message.elapsed.ToMilliseconds() == 1500
    one = messages.update_messages.build("a", update)
    assert one == messages.update_messages.build("a", [update])


def test_P4_a_summary_is_copied_and_gets_a_client_id() -> None:
    summary = sessiond.message("user", "n")
    request = compactions.compact.build("a", 2, 5, summary, lease_token="t")
    assert request.summary.client_id
    assert not summary.client_id
    assert request.summary.role == v1.Role.ROLE_USER
    assert sessiond.text_of(compactions.compact.build("a", 2, 5, "n").summary) == "n"


def test_goals_of_zero_are_goals() -> None:
    request = compactions.plan_compaction.build("a", max_context_tokens=0, lease_ttl=90)
    assert request.WhichOneof("goal") == "max_context_tokens"
    assert request.lease_ttl.seconds == 90


def test_a_usage_record_keeps_decimals_exactly_and_takes_no_floats() -> None:
    record = sessiond.usage_record(
        input_tokens=3,
        estimated_cost=Decimal("0.10"),
        actual_cost="1E-3",
        turn_index=0,
        mode="api_key",
        time=datetime(2026, 1, 31, tzinfo=UTC),
    )
    assert list(record.usage.costs) == [v1.Cost(estimated="0.10", actual="1E-3")]
    assert record.HasField("turn_index")
    assert record.billing == v1.Billing(mode="api_key")
    assert sessiond.usage_record(actual_cost=Decimal("1E-7")).usage.costs[0].actual == "0.0000001"
    assert not sessiond.usage_record(currency="EUR").usage.costs
    assert not sessiond.usage_record().HasField("billing")
    with pytest.raises(TypeError, match="exact"):
        sessiond.usage_record(estimated_cost=0.1)  # type: ignore[arg-type]


def test_P4_usage_and_logs_get_request_ids_so_that_retries_count_once() -> None:
    plain, named, setting = (
        sessiond.usage_record(),
        sessiond.usage_record(request_id="r"),
        sessiond.usage_record(turn_index=1, set_turn=True),
    )
    sent = usage.record_usage.build("a", [plain, named, setting]).records
    assert sent[0].request_id
    assert [it.request_id for it in sent[1:]] == ["r", ""]
    assert not plain.request_id
    assert usage.record_usage.build("a", plain).records[0].request_id != sent[0].request_id
    record = v1.JournalRecord(content=b"{}")
    assert journal.append_journal.build("a", record).request_id
    assert journal.append_journal.build("a", [record], request_id="r").request_id == "r"


def test_list_usage_takes_days_and_groupings() -> None:
    request = usage.list_usage.build("a", "day_and_model", from_day=date(2026, 1, 31))
    assert request.group_by == v1.UsageGrouping.USAGE_GROUPING_DAY_AND_MODEL
    assert (request.from_day, request.to_day) == ("2026-01-31", "")
    with pytest.raises(ValueError, match="none of"):
        usage.list_usage.build("a", "week")  # type: ignore[arg-type]


def test_what_is_no_message_is_named_before_it_is_sent() -> None:
    for wrong in ("hello", {"role": "user"}, [{"role": "user", "content": "hello"}], [HELLO, "x"]):
        with pytest.raises(TypeError, match=r"not a sessiond\.v1\.Message: .*from_openai"):
            messages.append.build("s", wrong)  # type: ignore[arg-type]
    assert len(messages.append.build("s", (it for it in [HELLO])).messages) == 1
