"""Random histories that are searched, and sessions that are deleted and made again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

import sessiond
from sessiond import v1
from tests.model.driver import Pair
from tests.model.log import Refused
from tests.model.machines import FAULTS, RARELY, Fault, History
from tests.model.model import Session

Matches = Callable[[list[str]], bool]

QUERIES: dict[str, Matches] = {
    "said": lambda words: "said" in words,
    "LOOK": lambda words: "look" in words,
    '"in short"': lambda words: in_a_row(words, "in", "short"),
    "said OR short": lambda words: bool({"said", "short"} & set(words)),
    "thou*": lambda words: any(word.startswith("thou") for word in words),
    "look -thought": lambda words: "look" in words and "thought" not in words,
    "nobody": lambda words: False,
}
"""What is looked for, and which messages have it."""
INDEXED_WITHIN = 60.0
"""Seconds; the index follows the commits."""


def in_a_row(words: list[str], *wanted: str) -> bool:
    return any(tuple(words[place : place + len(wanted)]) == wanted for place in range(len(words)))


def words_of(message: v1.Message) -> list[str]:
    """The words of all that is searched; a gap between the fields."""
    fields = [sessiond.text_of(message), sessiond.reasoning_of(message)]
    fields += map(sessiond.text_of, sessiond.tool_results_of(message))
    for call in sessiond.tool_calls_of(message):
        fields += [call.name, call.arguments]
    return [word for field in fields for word in [*re.findall("[a-z0-9]+", field.lower()), "(gap)"]]


def expected_hits(
    pair: Pair, query: str, include_rewound: bool
) -> dict[int, tuple[bool, int | None]]:
    """The seqs that a search must find, with the marks of each; `None` is open."""
    found: dict[int, tuple[bool, int | None]] = {}
    for message in pair.log.view(v1.MessageView.MESSAGE_VIEW_ALL):
        shown = pair.log.shown(message)
        if QUERIES[query](words_of(message)) and (include_rewound or not shown.rewound):
            found[message.seq] = (shown.rewound, pair.log.compacted_by(message.seq))
    return found


def hits(pair: Pair, query: str, include_rewound: bool) -> dict[int, tuple[bool, int]]:
    """What a search finds when all of the session is indexed."""
    deadline = time.monotonic() + INDEXED_WITHIN
    while True:
        request = v1.SearchMessagesRequest(
            session_id=pair.session_id,
            query=query,
            include_rewound=include_rewound,
            page_size=100,
        )
        answer = pair.stubs.call("SearchMessages", request)
        if answer.indexed_through >= pair.log.last_seq:
            break
        assert time.monotonic() < deadline, "it isn't indexed"
        time.sleep(0.05)
    request.page_size = 3
    found = list(pair.stubs.pages("SearchMessages", request, "hits"))
    assert len({hit.seq for hit in found}) == len(found), "no message is found twice"
    return {hit.seq: (hit.rewound, hit.compacted_by_seq) for hit in found}


def check_search(pair: Pair, query: str, include_rewound: bool) -> None:
    expected = expected_hits(pair, query, include_rewound)
    found = hits(pair, query, include_rewound)
    assert found.keys() == expected.keys(), query
    for seq, (rewound, compacted_by) in expected.items():
        assert found[seq][0] == rewound, (query, seq)
        assert compacted_by in (None, found[seq][1]), (query, seq)


class Searches(History):
    """Whatever happened to a session, a search finds what its messages say now (D: messages around a hit)."""

    @rule(query=st.sampled_from(sorted(QUERIES)), include_rewound=st.booleans(), wanted=RARELY)
    def search(self, query: str, include_rewound: bool, wanted: bool) -> None:
        if wanted:
            check_search(self.pair, query, include_rewound)

    def teardown(self) -> None:
        super().teardown()
        for query in QUERIES:
            check_search(self.pair, query, True)


class Deletions(History):
    """A session that is deleted is gone, and one that is made with its id knows nothing of it (P11)."""

    @rule(wanted=RARELY, fault=FAULTS)
    def delete(self, wanted: bool, fault: Fault) -> None:
        if not wanted:
            return
        model = self.pair.model
        session_id, count = self.pair.session_id, len(self.pair.log.messages)
        request = self.guard(v1.DeleteSessionRequest(session_id=session_id), fault)
        answer = self.stubs.outcome("DeleteSession", request)
        if isinstance(answer, Refused):
            with pytest.raises(Refused) as expected:
                model.check_guard(request.guard)
            assert answer.reason == expected.value.reason
            self.compare(0)
            return
        model.check_guard(request.guard)
        assert (answer.session_count, answer.message_count, answer.deleted) == (1, count, True)
        assert answer.version == model.version()
        with pytest.raises(Refused) as refusal:
            self.stubs.call("GetSession", v1.GetSessionRequest(session_id=session_id))
        assert refusal.value.reason == "SESSION_NOT_FOUND"
        again = v1.CreateSessionRequest(session=v1.Session(id=session_id))
        self.stubs.call("CreateSession", again)
        self.old_tokens += [it for it in (self.pair.model.writer.token,) if it]
        self.pairs[-1] = Pair(self.stubs, Session(session_id))
        self.sent[session_id], self.summaries[session_id] = [], []
        self.compare(0)
