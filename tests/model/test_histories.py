"""Random histories over gRPC against the model: after every step the server says what the model says."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from sessiond import v1
from tests.model.contents import payloads
from tests.model.driver import Stubs
from tests.model.finding import Deletions, Searches
from tests.model.log import completed
from tests.model.machines import Appends, Forks, Hiding, Leases, Retries
from tests.model.offloads import Offloads
from tests.model.setups import Setups
from tests.support.examples import examples


def run(machine: type[RuleBasedStateMachine], stubs: Stubs, count: int, steps: int) -> None:
    """Run random histories of a kind."""
    bound = type(machine.__name__, (machine,), {"stubs": stubs})
    run_state_machine_as_test(
        bound, settings=settings(max_examples=examples(count), stateful_step_count=steps)
    )


class Writing(Appends, Retries, Leases):
    """What appends do."""


class Changing(Appends, Hiding, Setups, Forks):
    """What changes the context."""


class Finding(Appends, Hiding, Searches, Deletions):
    """What is found, and what is gone."""


class Everything(Appends, Retries, Leases, Hiding, Setups, Forks, Searches, Deletions):
    """All of it."""


class Offloading(Appends, Retries, Hiding, Setups, Forks, Offloads):
    """What offloading mustn't change."""


class FindingOffloaded(Appends, Hiding, Offloads, Searches, Deletions):
    """What is found of offloaded messages, and what is gone with them."""


@pytest.mark.timeout(600)
def test_P1_P3_P4_P5_appends_in_every_mode_are_what_the_model_says(stubs: Stubs) -> None:
    run(Writing, stubs, count=10, steps=20)


@pytest.mark.timeout(600)
def test_P6_P7_P8_contexts_now_and_of_the_past_are_what_the_model_says(stubs: Stubs) -> None:
    run(Changing, stubs, count=10, steps=25)


@pytest.mark.timeout(600)
def test_P6_P11_searches_find_what_is_there_and_deletions_leave_nothing(stubs: Stubs) -> None:
    run(Finding, stubs, count=10, steps=25)


@pytest.mark.timeout(600)
def test_P6_P11_searches_and_deletions_mind_no_offload(offloading_stubs: Stubs) -> None:
    run(FindingOffloaded, offloading_stubs, count=8, steps=25)


@pytest.mark.timeout(600)
def test_P4_P6_P7_P8_offloaded_histories_are_what_the_model_says(offloading_stubs: Stubs) -> None:
    run(Offloading, offloading_stubs, count=10, steps=25)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_P4_P6_P7_P8_long_offloaded_histories_are_what_the_model_says(
    offloading_stubs: Stubs,
) -> None:
    run(Offloading, offloading_stubs, count=150, steps=60)
    run(FindingOffloaded, offloading_stubs, count=60, steps=50)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_P1_to_P8_long_histories_are_what_the_model_says(stubs: Stubs) -> None:
    run(Writing, stubs, count=60, steps=50)
    run(Changing, stubs, count=150, steps=50)
    run(Finding, stubs, count=60, steps=50)
    run(Everything, stubs, count=100, steps=80)


def check_payloads(stubs: Stubs, messages: list[v1.Message]) -> None:
    """Append messages, and read them back in every way."""
    session_id = f"model/{uuid.uuid4()}"
    for place, message in enumerate(messages):
        message.client_id = f"m{place}"
    request = v1.AppendMessagesRequest(session_id=session_id, messages=messages)
    request.create_session.SetInParent()
    stubs.call("AppendMessages", request)
    expected = [said(completed(message)) for message in messages]
    listed = stubs.call("ListMessages", v1.ListMessagesRequest(session_id=session_id))
    assert [said(message) for message in listed.messages] == expected
    for as_of_seq in (0, len(messages)):
        asked = v1.GetContextRequest(session_id=session_id, as_of_seq=as_of_seq)
        assert [said(message) for message in stubs.context(asked)[1]] == expected
    for seq, content in enumerate(expected, start=1):
        one = stubs.call("GetMessage", v1.GetMessageRequest(session_id=session_id, seq=seq))
        assert said(one.message) == content
    assert stubs.call("AppendMessages", request).replayed


def said(message: v1.Message) -> bytes:
    """All that the caller said, as bytes."""
    copy = v1.Message()
    copy.CopyFrom(message)
    copy.ClearField("seq")
    copy.ClearField("create_time")
    return copy.SerializeToString(deterministic=True)


MANY = st.lists(payloads(), min_size=1, max_size=4)


@given(messages=MANY)
@settings(max_examples=examples(60))
def test_P10_payloads_come_back_byte_for_byte(stubs: Stubs, messages: list[v1.Message]) -> None:
    check_payloads(stubs, messages)


@pytest.mark.long
@pytest.mark.timeout(1800)
@given(messages=MANY)
@settings(max_examples=examples(2000))
def test_P10_many_payloads_come_back_byte_for_byte(
    stubs: Stubs, messages: list[v1.Message]
) -> None:
    check_payloads(stubs, messages)
