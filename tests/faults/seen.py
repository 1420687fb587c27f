"""What a watcher has received of a session, and whether that is what the session holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sessiond import v1

HIDING = ("rewound", "compacted_by_seq", "replaces_from_seq", "replaces_to_seq")
SUMMARY = "summary."
"""How the client ids of summaries begin; those of other messages end with `.{place}/{count}`."""


@dataclass
class Seen:
    """What one watcher has received of one session. `first` is the first seq that it wants, 0 as long as
    only the service knows."""

    session_id: str
    first: int = 1
    next_seq: int = 1
    messages: dict[int, v1.Message] = field(default_factory=dict)
    changes: set[tuple[str, int]] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    title: str | None = None
    deleted: bool = False
    fell_behind: int = 0
    problems: list[str] = field(default_factory=list)

    def take(self, events: Sequence[tuple[str, Any]]) -> None:
        """Take whole transactions: kinds and values of events."""
        appended = []
        for kind, value in events:
            handler = getattr(self, f"_{kind}", None)
            if handler is None:
                self._problem(f"nobody expects {kind}")
                continue
            if self.deleted:
                self._problem(f"{kind} when it was deleted")
            handler(value)
            if kind == "message_appended":
                appended.append(value)
        self._check_whole(appended)

    def _problem(self, text: str) -> None:
        self.problems.append(f"{self.session_id} at {self.next_seq}: {text}")

    def _begin(self, seq: int) -> None:
        if not self.first:
            self.first = self.next_seq = seq

    def _message_appended(self, message: v1.Message) -> None:
        self._begin(message.seq)
        if message.seq != self.next_seq:
            self._problem(f"message {message.seq}")
        self.messages[message.seq] = message
        self.next_seq = message.seq + 1

    def _message_updated(self, message: v1.Message) -> None:
        if message.seq in self.messages:
            self.messages[message.seq] = message
        elif self.first and message.seq >= self.first:
            self._problem(f"update of {message.seq}, which wasn't appended")

    def _compacted(self, compaction: v1.Compaction) -> None:
        self._placed("compacted", compaction.id, compaction.id)

    def _rewound(self, rewind: v1.Rewind) -> None:
        self._placed("rewound", rewind.id, rewind.to_seq)

    def _compaction_reverted(self, compaction: v1.Compaction) -> None:
        self._taken_back("compaction_reverted", "compacted", compaction.id)

    def _rewind_reverted(self, rewind: v1.Rewind) -> None:
        self._taken_back("rewind_reverted", "rewound", rewind.id)

    def _placed(self, kind: str, id: int, seq: int) -> None:
        """A change that stands right behind a message."""
        self._begin(seq + 1)
        if seq + 1 != self.next_seq:
            self._problem(f"{kind} {id} belongs behind {seq}")
        self._change(kind, id)

    def _taken_back(self, kind: str, made: str, id: int) -> None:
        if self.first == 1 and (made, id) not in self.changes:
            self._problem(f"{kind} {id}, which wasn't {made}")
        self._change(kind, id)

    def _change(self, kind: str, id: int) -> None:
        if (kind, id) in self.changes:
            self._problem(f"{kind} {id} once more")
        self.changes.add((kind, id))

    def _session_changed(self, changed: v1.SessionChanged) -> None:
        self.title = changed.session.title

    def _writer_changed(self, changed: v1.WriterChanged) -> None:
        if not changed.holder:
            self._problem("a lease of nobody")

    def _usage_recorded(self, recorded: v1.UsageRecorded) -> None:
        if recorded.record_count < 1:
            self._problem("no usage was recorded")

    def _child_created(self, child: v1.ChildCreated) -> None:
        if child.session_id in self.children:
            self._problem(f"child {child.session_id} once more")
        self.children.add(child.session_id)

    def _session_deleted(self, _: v1.SessionDeleted) -> None:
        self.deleted = True

    def _caught_up(self, caught_up: v1.CaughtUp) -> None:
        self._begin(caught_up.next_seq)
        if caught_up.next_seq != self.next_seq and caught_up.next_seq > self.first:
            self._problem(f"caught up with {caught_up.next_seq}")

    def _fell_behind(self, _: v1.FellBehind) -> None:
        self.fell_behind += 1

    def _check_whole(self, appended: Sequence[v1.Message]) -> None:
        """Whether all messages of each call are here, but those before the first wanted."""
        places: dict[str, set[int]] = {}
        counts: dict[str, int] = {}
        for message in appended:
            if message.client_id.startswith(SUMMARY):
                if ("compacted", message.seq) not in self.changes:
                    self._problem(f"summary {message.seq} without its compaction")
                continue
            call, _, of_count = message.client_id.rpartition(".")
            place, count = (int(number) for number in of_count.split("/"))
            if message.seq - place + 1 >= self.first:
                places.setdefault(call, set()).add(place)
                counts[call] = count
        for call, found in places.items():
            if len(found) != counts[call]:
                self._problem(f"only {sorted(found)} of {counts[call]} messages of {call}")


@dataclass
class Truth:
    """What the service says that a session holds."""

    messages: dict[int, v1.Message]
    changes: dict[tuple[str, int], int]
    """Behind which seq they were made; 0 if it isn't known."""
    children: set[str]
    title: str
    next_seq: int

    def missing(self, seen: Seen) -> list[str]:
        """In what a watcher's history isn't this one."""
        found = list(seen.problems)
        if seen.next_seq != self.next_seq and seen.first <= self.next_seq:
            found.append(f"{seen.session_id}: got to {seen.next_seq}, not to {self.next_seq}")
        wrong = [seq for seq, message in seen.messages.items() if self.messages.get(seq) != message]
        if wrong:
            found.append(f"{seen.session_id}: other messages at {wrong[:5]}")
        whole = seen.first == 1
        due = {change for change, seq in self.changes.items() if whole or seq >= seen.first > 0}
        wrong_changes = (due - seen.changes) | (seen.changes - self.changes.keys())
        if wrong_changes:
            found.append(f"{seen.session_id}: {sorted(wrong_changes)[:5]}")
        if (whole or seen.title) and self.title != (seen.title or ""):
            found.append(f"{seen.session_id}: title {seen.title!r}, not {self.title!r}")
        if seen.children - self.children or (whole and self.children - seen.children):
            found.append(f"{seen.session_id}: children {sorted(seen.children ^ self.children)[:5]}")
        return found
