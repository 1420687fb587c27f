"""What is exported and imported into another store is equal in everything that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

import sessiond
from sessiond import Client, v1
from tests.model.driver import Stubs
from tests.model.machines import Appends, Forks, Hiding, Leases, Retries
from tests.model.setups import Setups
from tests.support.examples import examples
from tests.support.processes import ServerProcess
from tests.transfer.reading import everything


def move(old: Client, new: Client, ids: Sequence[str]) -> list[v1.ImportOutcome]:
    """Exports and imports; the outcomes."""
    answers = new.import_sessions(old.export_sessions(ids))
    return [outcome for answer in answers for outcome in answer.outcomes]


class Moving(Appends, Retries, Leases, Hiding, Setups, Forks):
    """A random history with its forks that moves at its end, twice."""

    old: Client
    new: Client

    def compare(self, pick: int) -> None:
        """The model's own tests do that."""

    def teardown(self) -> None:
        ids = [pair.session_id for pair in self.pairs]
        for outcome in move(self.old, self.new, ids):
            assert not outcome.HasField("error"), outcome
            assert outcome.created
        for outcome in move(self.old, self.new, ids):
            assert not outcome.HasField("error"), outcome
            assert outcome.messages_added == outcome.records_added == 0, outcome
            assert not outcome.facts_differ
        for session_id in ids:
            before, after = everything(self.old, session_id), everything(self.new, session_id)
            for what, value in before.items():
                assert after[what] == value, what
        assert exported(self.new, ids) == exported(self.old, ids)


def exported(client: Client, ids: Sequence[str]) -> list[v1.TransferRecord]:
    """The records of sessions without what no two stores have in common."""
    records = list(client.export_sessions(ids))
    for record in records:
        record.session.session.ClearField("incarnation")
        record.session.session.ClearField("etag")
    return records


def run(old: Client, new: Client, source: ServerProcess, count: int, steps: int) -> None:
    bound = type("Moved", (Moving,), {"stubs": Stubs(source.target), "old": old, "new": new})
    run_state_machine_as_test(
        bound,
        settings=settings(max_examples=examples(count), stateful_step_count=steps),
    )


@pytest.mark.timeout(600)
def test_B_export_and_D_import_give_an_equal_session_whatever_happened_in_it(
    old: Client, new: Client, source: ServerProcess
) -> None:
    run(old, new, source, count=6, steps=25)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_P6_P7_P10_long_histories_are_equal_after_export_and_import(
    old: Client, new: Client, source: ServerProcess
) -> None:
    run(old, new, source, count=150, steps=60)


def test_P4_imports_of_the_same_sessions_at_once_are_as_one(old: Client, new: Client) -> None:
    """As when a caller that gave up sends it all again while its first import still runs."""
    ids = [f"twice-{number}" for number in range(20)]
    for id in ids:
        old.create_session(id, title=id)
        old.append(id, [sessiond.message("user", f"{n}") for n in range(50)])
    with ThreadPoolExecutor(4) as threads:
        imports = list(threads.map(lambda _: move(old, new, ids), range(4)))
    outcomes = [outcome for outcomes in imports for outcome in outcomes]
    assert not [outcome for outcome in outcomes if outcome.HasField("error")]
    assert sum(outcome.created for outcome in outcomes) == len(ids)
    assert sum(outcome.messages_added for outcome in outcomes) == 50 * len(ids)
    assert exported(new, ids) == exported(old, ids)
