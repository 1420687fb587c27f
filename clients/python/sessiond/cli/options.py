"""The options of the verbs, by the names that their parameters have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class FeedKind(StrEnum):
    """What happens in a session."""

    MESSAGE_APPENDED = "message_appended"
    MESSAGE_UPDATED = "message_updated"
    COMPACTED = "compacted"
    COMPACTION_REVERTED = "compaction_reverted"
    REWOUND = "rewound"
    REWIND_REVERTED = "rewind_reverted"
    MESSAGES_CLEARED = "messages_cleared"
    SESSION_CHANGED = "session_changed"
    CHILD_CREATED = "child_created"
    REMINDER_CHANGED = "reminder_changed"
    MESSAGES_OFFLOADED = "messages_offloaded"
    ATTACHMENT_CHANGED = "attachment_changed"
    USAGE_RECORDED = "usage_recorded"
    WRITER_CHANGED = "writer_changed"


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class State(StrEnum):
    """A session's state."""

    ACTIVE = "active"
    ENDED = "ended"


class ReminderState(StrEnum):
    """Where a reminder stands."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ANY = "any"


class Taken(StrEnum):
    """What becomes of a title that another session has."""

    ALLOW = "allow"
    REFUSE = "refuse"
    NUMBER = "number"


class Order(StrEnum):
    """What `ls` orders by."""

    ACTIVITY = "activity"
    CREATED = "created"


class FileFormat(StrEnum):
    """A file format for sessions."""

    OPENAI = "openai"
    NATIVE = "native"
    HERMES = "hermes"
    POWER_LOOP = "power-loop"


class ExportFormat(StrEnum):
    """A file format that sessions are written in."""

    OPENAI = "openai"
    NATIVE = "native"


class ViewName(StrEnum):
    """Which messages to export."""

    TRANSCRIPT = "transcript"
    CONTEXT = "context"
    ALL = "all"


# Facts of a new session
Title = Annotated[str, typer.Option(help="Its title.")]
IfTaken = Annotated[
    Taken, typer.Option("--if-taken", help="If another session of the owner has the title.")
]
Owner = Annotated[str, typer.Option(help="Whose it is.")]
Source = Annotated[str, typer.Option(help="Where it comes from.")]
Agent = Annotated[str, typer.Option(help="The agent.")]
Model = Annotated[str, typer.Option(help="The model that it runs on.")]
PromptFile = Annotated[
    Path | None, typer.Option("--system-prompt-file", help="A file; - is stdin.")
]
Label = Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be repeated.")]
Metadata = Annotated[str, typer.Option(help="A JSON object.")]
Pin = Annotated[bool, typer.Option("--pin", help="List it first.")]
IfMissing = Annotated[
    bool, typer.Option("--if-missing", help="If the id is in use, take that session.")
]

# Which sessions
OfOwner = Annotated[
    str | None, typer.Option(help="Only this owner's; empty: those without.", show_default=False)
]
WholeTenant = Annotated[
    bool, typer.Option("--whole-tenant", help="Everybody's, where no owner is given.")
]
OnlySources = Annotated[list[str] | None, typer.Option(help="Only of this source; repeatable.")]
NotSources = Annotated[list[str] | None, typer.Option(help="Not of this source; repeatable.")]
OnlyAgents = Annotated[
    list[str] | None, typer.Option("--agent", help="Only of this agent; repeatable.")
]
OnlyStates = Annotated[list[State] | None, typer.Option(help="Only in this state; repeatable.")]
Archived = Annotated[bool, typer.Option("--archived", help="Only archived ones.")]
EverySession = Annotated[bool, typer.Option("--all", "-a", help="With sub-agents' sessions.")]
OnlyLabels = Annotated[list[str] | None, typer.Option(help="Only with KEY=VALUE; repeatable.")]
OnlyParent = Annotated[str, typer.Option(help="Only children of this session.")]
OnlySubtree = Annotated[str, typer.Option(help="Only this session and its descendants.")]
OnlyIdle = Annotated[str, typer.Option(help="Only without activity for so long: 90min, 2h, 7d.")]
OnlyText = Annotated[str, typer.Option(help="Only with these words in the title or a message.")]
Sort = Annotated[Order, typer.Option(help="By what, the newest first.")]
OlderThan = Annotated[str, typer.Option(help="Created at least so long ago: 90min, 2h, 30d, 52w.")]
IdleFor = Annotated[str, typer.Option(help="Not written to for at least so long.")]
EndedFor = Annotated[str, typer.Option(help="Ended at least so long ago.")]
PruneStates = Annotated[
    list[State] | None, typer.Option("--state", help="In this state; repeatable; else ended ones.")
]
WithPinned = Annotated[bool, typer.Option("--include-pinned", help="Pinned ones too.")]
WithSubagents = Annotated[
    bool, typer.Option("--include-subagents", help="Sub-agents' sessions by themselves too.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")]
Force = Annotated[bool, typer.Option("--force", help="Delete what is shown otherwise.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many; 0 is all.")]

# A search
Query = Annotated[str, typer.Argument(help="What to look for.")]
InSession = Annotated[str, typer.Option("--session", help="Only in this session.")]
InSubtree = Annotated[
    str, typer.Option("--subtree-of", help="Only in this session and its descendants.")
]
OnlyRoles = Annotated[
    list[Role] | None, typer.Option("--role", help="Only from this role; repeatable.")
]
Within = Annotated[str, typer.Option(help="Only of the last so long: 90min, 2h, 7d.")]
NewestFirst = Annotated[bool, typer.Option("--newest", help="The newest first, not the best.")]
WithRewound = Annotated[bool, typer.Option("--rewound", help="With what is rewound.")]
Neighbors = Annotated[
    int, typer.Option("--context", "-C", min=0, max=5, help="With so many messages around.")
]
Sessions = Annotated[
    list[str] | None, typer.Argument(help="Ids, unique beginnings of ids, or titles.")
]
AllSessions = Annotated[bool, typer.Option("--all", "-a", help="All sessions.")]

# A message
Text = Annotated[str | None, typer.Argument(help="The text; stdin if it is - or left out.")]
WithRole = Annotated[
    Role | None,
    typer.Option(help="Who speaks: user if left out. With it, stdin is taken as plain text."),
]
Speaker = Annotated[str, typer.Option(help="The speaker's name, or the tool's.")]
AnsweredCall = Annotated[str, typer.Option(help="For role tool: the id of the call it answers.")]
ClientId = Annotated[str, typer.Option(help="Makes the append safe to repeat.")]
CreateSession = Annotated[bool, typer.Option("--create", help="Make the session if need be.")]
Expect = Annotated[int, typer.Option(min=0, help="Refuse unless this is the next seq; 0: don't.")]
ExpectRevision = Annotated[
    int, typer.Option(min=0, help="Refuse unless this is the revision; 0: don't.")
]

# How to show messages
FromSeq = Annotated[int, typer.Option("--from", min=0, help="Begin at this seq.")]
ToSeq = Annotated[int, typer.Option("--to", min=0, help="Stop at this seq, itself included.")]
Full = Annotated[bool, typer.Option("--full", help="Don't cut long results short.")]
Expand = Annotated[bool, typer.Option("--expand", help="Open what was compacted.")]
EveryMessage = Annotated[
    bool, typer.Option("--all", "-a", help="With what is rewound, or not for people to see.")
]
Continuations = Annotated[
    bool,
    typer.Option(
        "--continuations", help="With the sessions that it continues, as one conversation."
    ),
]
AsOf = Annotated[int, typer.Option(min=0, help="As it was right after this seq; 0 is now.")]
MaxTokens = Annotated[int, typer.Option(min=0, help="The newest of so many tokens; 0 is all.")]
MaxMessages = Annotated[int, typer.Option(min=0, help="At most so many messages; 0 is all.")]

# What happens
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens.")]
FollowList = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what changes.")]
Lines = Annotated[
    int, typer.Option("--lines", "-n", min=0, help="Begin so many messages before the end.")
]
Subtree = Annotated[bool, typer.Option("--subtree", help="With all its descendants.")]
OnlyKinds = Annotated[
    list[FeedKind] | None,
    typer.Option("--only", help="Only this kind of event; repeatable."),
]
Drafts = Annotated[
    bool,
    typer.Option(
        "--drafts",
        help="With -f: show messages while they are written, on a terminal or with -o jsonl.",
    ),
]

# Compactions and rewinds
RangeFrom = Annotated[int | None, typer.Argument(metavar="[FROM]", min=1, help="First seq.")]
RangeTo = Annotated[int | None, typer.Argument(metavar="[TO]", min=1, help="Last seq.")]
Summary = Annotated[str | None, typer.Option("--summary", help="The summary's text.")]
SummaryFile = Annotated[
    Path | None, typer.Option("--summary-file", help="The summary's file; - is stdin.")
]
SummaryTokens = Annotated[int, typer.Option(min=0, help="How many tokens the summary takes.")]
Author = Annotated[str, typer.Option(help="Who or why, for the record.")]
ByModel = Annotated[str, typer.Option(help="With which model, for the record.")]
Plan = Annotated[bool, typer.Option("--plan", help="Only show which range is safe.")]
GoalTokens = Annotated[int | None, typer.Option(min=0, help="The plan's goal for the context.")]
GoalMessages = Annotated[int | None, typer.Option(min=0, help="Likewise, in messages.")]
KeepRecent = Annotated[int, typer.Option(min=0, help="Newest messages to keep; 0 is 4.")]
ListThem = Annotated[bool, typer.Option("--list", help="Only show those that there are.")]
CompactionId = Annotated[
    int, typer.Argument(min=1, help="The compaction's id; see `compact --list`.")
]
AfterSeq = Annotated[
    int | None,
    typer.Argument(metavar="[AFTER_SEQ]", min=0, help="The last seq that stays; 0 hides all."),
]
Revert = Annotated[bool, typer.Option("--revert", help="Bring back what a rewind hid.")]
RewindId = Annotated[
    int | None, typer.Option("--id", min=1, help="Which to revert; left out, the newest.")
]

# Storage
OffloadBefore = Annotated[
    int | None, typer.Option("--before", min=1, help="Messages before this seq.")
]
OffloadKeep = Annotated[
    int | None, typer.Option("--keep", min=0, help="All but so many of the newest.")
]
RestoreFrom = Annotated[
    int | None,
    typer.Option("--from", min=1, help="From this seq on, in whole segments (about 256)."),
]
AllMessages = Annotated[bool, typer.Option("--all", help="All messages.")]
WithContinuations = Annotated[
    bool,
    typer.Option(
        "--continuations", help="With the sessions that these continue, and that continue them."
    ),
]

# Files
Format = Annotated[FileFormat, typer.Option("--format", help="The files' format.")]
ToFormat = Annotated[ExportFormat, typer.Option("--format", help="The format to write.")]
UpdateMetadata = Annotated[
    bool, typer.Option("--update-metadata", help="Take the file's where they differ.")
]
RetryFor = Annotated[
    float, typer.Option(min=0, help="Seconds to wait for a server that went away.")
]
ToFile = Annotated[
    Path | None, typer.Option("--file", "-f", help="Where to, else stdout; .gz makes it gzip.")
]
OnlyMessages = Annotated[ViewName, typer.Option("--view", help="Which messages.")]
