"""Requests of which a field breaks its form or limit, and the field that the refusal must name."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

import sessiond
from sessiond import v1
from tests.rpc.api import ASSISTANT, TOOL, USER, said
from tests.rpc.odd_values import nested

_LONG = "x" * 257
_CALL, _THOUGHT = sessiond.tool_call("a", "f"), sessiond.reasoning("hm")
_RESULT = "messages[0].parts[0].tool_result"
_SUBAGENT, _FORK = v1.ParentKind.PARENT_KIND_SUBAGENT, v1.ParentKind.PARENT_KIND_FORK
_NO_STATE, _NO_ROLE = v1.SessionState.SESSION_STATE_UNSPECIFIED, v1.Role.ROLE_UNSPECIFIED


def _big() -> Struct:
    found = Struct()
    found["text"] = "x" * 65_536
    return found


def _append(*messages: v1.Message, **fields: Any) -> v1.AppendMessagesRequest:
    return v1.AppendMessagesRequest(session_id="s", messages=messages, **fields)


def _create(**fields: Any) -> v1.CreateSessionRequest:
    return v1.CreateSessionRequest(session=v1.Session(**fields))


def _parts(*parts: v1.Part) -> v1.AppendMessagesRequest:
    return _append(v1.Message(client_id="c", role=USER, parts=parts))


def _results(*parts: v1.Part) -> v1.AppendMessagesRequest:
    return _append(sessiond.message(TOOL, *parts, client_id="c"))


def _calls(*calls: v1.ToolCall) -> v1.AppendMessagesRequest:
    parts = [v1.Part(tool_call=call) for call in calls]
    return _append(sessiond.message(ASSISTANT, *parts, client_id="c"))


def _update(message: v1.Message, *paths: str) -> v1.UpdateMessagesRequest:
    update = v1.MessageUpdate(message=message, update_mask=FieldMask(paths=paths))
    return v1.UpdateMessagesRequest(session_id="s", updates=[update])


def _compact(**fields: Any) -> v1.CompactSessionRequest:
    request = v1.CompactSessionRequest(session_id="s", from_seq=1, to_seq=2)
    if "summary" not in fields:
        request.summary.parts.add(text="short")
    request.summary.client_id = "summary"
    request.MergeFrom(v1.CompactSessionRequest(**fields))
    return request


_BAD = v1.WriteGuard(expected_next_seq=-1, expected_revision=-1, writer_token=_LONG)


def _plan(**fields: Any) -> v1.PlanCompactionRequest:
    return v1.PlanCompactionRequest(session_id="s", **fields)


def _set(**fields: Any) -> v1.UpdateSessionRequest:
    paths = fields.pop("paths")
    return v1.UpdateSessionRequest(
        session=v1.Session(id="s", **fields), update_mask=FieldMask(paths=paths)
    )


def _renamed(**fields: Any) -> v1.UpdateAttachmentRequest:
    paths = fields.pop("paths")
    return v1.UpdateAttachmentRequest(
        session_id="s",
        attachment=v1.Attachment(**{"id": "a", "name": "x", **fields}),
        update_mask=FieldMask(paths=paths),
    )


def _ruled(times: dict[str, Any]) -> v1.RetentionRule:
    """A rule of these times, and fields of its filter."""
    sessions = v1.SessionFilter(**{"whole_tenant": True, **times.pop("sessions", {})})
    return v1.RetentionRule(sessions=sessions, **times)


def _prune(**rule: Any) -> v1.PruneSessionsRequest:
    return v1.PruneSessionsRequest(rule=_ruled(rule))


def _policy(name: str, **rule: Any) -> v1.SetRetentionPolicyRequest:
    policy = v1.RetentionPolicy(id=name, rule=_ruled(rule))
    return v1.SetRetentionPolicyRequest(policy=policy)


def _continuations_of_contexts() -> v1.ListMessagesRequest:
    context = v1.MessageView.MESSAGE_VIEW_CONTEXT
    return v1.ListMessagesRequest(session_id="s", continuations=True, view=context)


def _filtered(**fields: Any) -> v1.GetTenantStatsRequest:
    return v1.GetTenantStatsRequest(filter=v1.SessionFilter(**fields))


def _times(start: int, end: int) -> v1.TimeRange:
    return v1.TimeRange(start_time=Timestamp(seconds=start), end_time=Timestamp(seconds=end))


_ALL = v1.SessionFilter(whole_tenant=True)
_CHILDREN = v1.SessionFilter(parent_id="a\nb")
_BY_TURN = v1.UsageGrouping.USAGE_GROUPING_TURN
_DAY = Duration(seconds=86400)

FIELDS: list[tuple[Message, str]] = [
    (v1.GetSessionRequest(), "session_id"),
    (v1.GetSessionRequest(session_id="a\nb"), "session_id"),
    (v1.GetSessionRequest(session_id="é" * 256 + "x"), "session_id"),
    (v1.GetSessionRequest(session_id="a\u2028"), "session_id"),
    (v1.GetSessionRequest(session_id="s", view=9), "view"),  # type: ignore[arg-type]
    (v1.ResolveSessionRequest(), "query"),
    (v1.ResolveSessionRequest(query="é" * 256 + "x"), "query"),
    (v1.NextTitleRequest(), "title"),
    (v1.NextTitleRequest(title="\u200b \u202e"), "title"),
    (v1.EndSessionRequest(session_id="s", reason=_LONG), "reason"),
    (v1.EndSessionRequest(session_id="s", reason="a\nb"), "reason"),
    (_create(owner=_LONG), "session.owner"),
    (_create(source="a\0"), "session.source"),
    (_create(title="x" * 101), "session.title"),
    (_create(title_source=7), "session.title_source"),
    (_create(system_prompt="é" * 2**18 + "x"), "session.system_prompt"),
    (_create(config=bytes(65_537)), "session.config"),
    (_create(metadata=_big()), "session.metadata"),
    (_create(metadata=nested(31)), "session.metadata"),
    (_create(labels={str(n): "" for n in range(65)}), "session.labels"),
    (_create(labels={"": "v"}), "session.labels['']"),
    (_create(labels={"k" * 64: "v"}), f"session.labels['{'k' * 64}']"),
    (_create(labels={"k": _LONG}), "session.labels['k']"),
    (_create(turn_index=-1), "session.turn_index"),
    (_create(lifecycle=8), "session.lifecycle"),
    (_create(id="s", parent=v1.SessionParent(id="s", kind=_SUBAGENT)), "session.parent.id"),
    (_create(parent=v1.SessionParent(id="p")), "session.parent.kind"),
    (_create(parent=v1.SessionParent(id="p", kind=_FORK)), "session.parent.kind"),
    (v1.CreateSessionRequest(request_id="a b"), "request_id"),
    (v1.ForkSessionRequest(session_id="s", at_seq=-1), "at_seq"),
    (v1.ForkSessionRequest(session_id="s", fork=v1.Session(id="s")), "fork.id"),
    (
        v1.ForkSessionRequest(session_id="s", fork=v1.Session(parent=v1.SessionParent())),
        "fork.parent",
    ),
    (_set(paths=[]), "update_mask"),
    (_set(paths=["*"]), "update_mask"),
    (_set(paths=["title.x"]), "update_mask"),
    (_set(paths=["next_seq"]), "update_mask"),
    (_set(paths=["pinned", "etag"]), "update_mask"),
    (_set(paths=["title"], title="é" * 101), "session.title"),
    (_set(paths=["state"], state=v1.SessionState.SESSION_STATE_ENDED), "update_mask"),
    (v1.GetTenantStatsRequest(), "filter"),
    (_filtered(), "filter"),
    (_filtered(include_subagents=True, sources=["s"]), "filter"),
    (_filtered(owner=_LONG), "filter.owner"),
    (_filtered(owner="", sources=["s"] * 65), "filter.sources"),
    (_filtered(owner="", exclude_sources=["s", _LONG]), "filter.exclude_sources[1]"),
    (_filtered(owner="", agents=["a\n"]), "filter.agents[0]"),
    (_filtered(whole_tenant=True, states=[_NO_STATE]), "filter.states[0]"),
    (_filtered(whole_tenant=True, labels={str(n): "" for n in range(17)}), "filter.labels"),
    (_filtered(parent_id="no\nid"), "filter.parent_id"),
    (_filtered(subtree_of="no\nid"), "filter.subtree_of"),
    (_filtered(owner="a", end_time=_times(2**40, 1)), "filter.end_time.start_time"),
    (_filtered(owner="a", create_time=_times(7, 7)), "filter.create_time.end_time"),
    (_prune(), "rule"),
    (_prune(idle_for=Duration(seconds=-1)), "rule.idle_for"),
    (_prune(older_than=_DAY, sessions={"sources": ["s"] * 65}), "rule.sessions.sources"),
    (_prune(older_than=_DAY, sessions={"states": [_NO_STATE]}), "rule.sessions.states[0]"),
    (_prune(older_than=_DAY, sessions={"labels": {"": "v"}}), "rule.sessions.labels['']"),
    (_prune(older_than=_DAY, sessions={"whole_tenant": False}), "rule.sessions"),
    (v1.PruneSessionsRequest(page_size=-1), "page_size"),
    (_policy("", older_than=_DAY), "policy.id"),
    (_policy("A b", older_than=_DAY), "policy.id"),
    (_policy("p"), "policy.rule"),
    (_policy("p", ended_for=Duration()), "policy.rule"),
    (v1.DeleteRetentionPolicyRequest(), "policy_id"),
    (v1.GetRetentionPolicyRequest(), "policy_id"),
    (v1.GetRetentionPolicyRequest(policy_id="A"), "policy_id"),
    (v1.ListRetentionReportsRequest(policy_id="x" * 64), "policy_id"),
    (v1.ListRetentionReportsRequest(page_size=-1), "page_size"),
    (v1.ListRetentionPoliciesRequest(page_size=-1), "page_size"),
    (v1.SearchMessagesRequest(), "query"),
    (v1.SearchMessagesRequest(query=' - "*" \' \\ OR'), "query"),
    (v1.SearchMessagesRequest(query="-paris"), "query"),
    (v1.SearchMessagesRequest(query="rome OR NOT paris"), "query"),
    (v1.SearchMessagesRequest(query="é" * 1001), "query"),
    (v1.SearchMessagesRequest(query="a " * 33), "query"),
    (v1.SearchMessagesRequest(query="東" * 129), "query"),
    (v1.SearchMessagesRequest(query="-\u0301 \u0301"), "query"),
    (v1.SearchMessagesRequest(query="a", page_size=-1), "page_size"),
    (v1.SearchMessagesRequest(query="a", session_id="a\0b"), "session_id"),
    (v1.SearchMessagesRequest(query="a"), "filter"),
    (v1.SearchMessagesRequest(query="a", filter=v1.SessionFilter(owner=_LONG)), "filter.owner"),
    (v1.ExportSessionsRequest(), "filter"),
    (v1.ExportSessionsRequest(session_ids=["s"], filter=_CHILDREN), "filter.parent_id"),
    (v1.ListRemindersRequest(), "filter"),
    (v1.ListRemindersRequest(session_id="s", filter=_CHILDREN), "filter.parent_id"),
    (v1.ClaimRemindersRequest(), "filter"),
    (v1.ClaimSessionsRequest(consumer_id="c"), "filter"),
    (v1.ClaimSessionsRequest(consumer_id="c", filter=v1.SessionFilter(owner="")), "filter.owner"),
    (
        v1.ClaimSessionsRequest(
            consumer_id="c", filter=v1.SessionFilter(whole_tenant=True, sources=["s"])
        ),
        "filter.sources",
    ),
    (v1.GetUsageRequest(), "scope"),
    (v1.GetUsageRequest(subtree_of=""), "subtree_of"),
    (v1.GetUsageRequest(sessions=v1.SessionFilter()), "sessions"),
    (v1.GetUsageRequest(subtree_of="s", group_by=_BY_TURN), "session_id"),
    (
        v1.SearchMessagesRequest(query="a", filter=_ALL, roles=[v1.Role.ROLE_UNSPECIFIED]),
        "roles[0]",
    ),
    (
        v1.SearchMessagesRequest(query="a", filter=_ALL, start_time=Timestamp(nanos=-1)),
        "start_time",
    ),
    (v1.SearchMessagesRequest(query="a", filter=_ALL, context_after=6), "context_after"),
    (v1.SearchMessagesRequest(query="a", filter=_ALL, snippet_characters=-1), "snippet_characters"),
    (v1.ReindexSessionsRequest(), "session_ids"),
    (v1.ReindexSessionsRequest(session_ids=["s"], all=True), "session_ids"),
    (v1.ReindexSessionsRequest(session_ids=["s", "a\ufdd0"]), "session_ids[1]"),
    (v1.ListSessionsRequest(page_size=-1), "page_size"),
    (v1.ListSessionsRequest(filter=_ALL, text="-"), "text"),
    (v1.ListSessionsRequest(filter=_ALL, text="a" * 1001), "text"),
    (v1.ListSessionsRequest(filter=_ALL, order_by=3), "order_by"),  # type: ignore[arg-type]
    (_append(), "messages"),
    (_append(*(v1.Message(client_id=str(n), role=USER) for n in range(1001))), "messages"),
    (_append(said("x" * 3 * 2**20)), "messages"),
    (_append(v1.Message(role=USER)), "messages[0].client_id"),
    (_append(said(client_id="a b")), "messages[0].client_id"),
    (_append(said(), said(client_id="é")), "messages[1].client_id"),
    (_append(v1.Message(client_id="c")), "messages[0].role"),
    (_append(v1.Message(client_id="c", role=9)), "messages[0].role"),  # type: ignore[arg-type]
    (_append(said(kind=99)), "messages[0].kind"),
    (_append(said(token_count=-1)), "messages[0].token_count"),
    (_append(said(turn_index=-1)), "messages[0].turn_index"),
    (_append(said(elapsed=Duration(seconds=-1))), "messages[0].elapsed"),
    (_append(said(origin_time=Timestamp(nanos=-1))), "messages[0].origin_time"),
    (_append(said(type="x" * 129)), "messages[0].type"),
    (_append(said(type="\n")), "messages[0].type"),
    (_append(v1.Message(client_id="c", role=USER)), "messages[0].parts"),
    (_append(v1.Message(client_id="c", role=TOOL)), "messages[0].parts"),
    (_results(sessiond.tool_result("a", tool_name=_LONG)), _RESULT + ".tool_name"),
    (_results(sessiond.tool_result("é" * 129)), _RESULT + ".tool_call_id"),
    (_results(sessiond.tool_result("a", *["x"] * 257)), _RESULT + ".parts"),
    (_results(sessiond.tool_result("a", v1.Part())), _RESULT + ".parts[0]"),
    (_results(sessiond.tool_result("a", _CALL)), _RESULT + ".parts[0].tool_call"),
    (_results(sessiond.tool_result("a", _THOUGHT)), _RESULT + ".parts[0].reasoning"),
    (
        _results(sessiond.tool_result("a", sessiond.tool_result("b"))),
        _RESULT + ".parts[0].tool_result",
    ),
    (
        _results(sessiond.tool_result("a", v1.Part(audio=v1.Media()))),
        _RESULT + ".parts[0].audio",
    ),
    (_results(v1.Part(text="x")), "messages[0].parts[0].text"),
    (_parts(v1.Part(text="x"), _CALL), "messages[0].parts[1].tool_call"),
    (_parts(_THOUGHT), "messages[0].parts[0].reasoning"),
    (_parts(v1.Part(refusal="x")), "messages[0].parts[0].refusal"),
    (
        _append(sessiond.message("system", sessiond.tool_result("a"), client_id="c")),
        "messages[0].parts[0].tool_result",
    ),
    (
        _parts(v1.Part(text="x", extensions={"": b""})),
        "messages[0].parts[0].extensions['']",
    ),
    (
        _append(
            said(extensions={f"{n}": b"" for n in range(64)}),
            sessiond.message(
                ASSISTANT,
                *(sessiond.reasoning("", {f"{n}-{m}": b"" for m in range(32)}) for n in range(2)),
                client_id="c",
                extensions={"one": b""},
            ),
        ),
        "messages[1].extensions",
    ),
    (_append(said(name="\x1f")), "messages[0].name"),
    (_append(said(finish_reason=_LONG)), "messages[0].finish_reason"),
    (_append(said(model=_LONG)), "messages[0].model"),
    (_append(said(metadata=_big())), "messages[0].metadata"),
    (_append(said(metadata=nested(31))), "messages[0].metadata"),
    (_append(said(extensions={str(n): b"" for n in range(65)})), "messages[0].extensions"),
    (_append(said(extensions={"": b""})), "messages[0].extensions['']"),
    (_append(said(), guard=v1.WriteGuard(expected_next_seq=-1)), "guard.expected_next_seq"),
    (_append(said(), guard=v1.WriteGuard(expected_revision=-1)), "guard.expected_revision"),
    (_append(said(), guard=v1.WriteGuard(writer_token=_LONG)), "guard.writer_token"),
    (v1.EndSessionRequest(session_id="s", guard=_BAD), "guard.expected_next_seq"),
    (v1.ReopenSessionRequest(session_id="s", guard=_BAD), "guard.expected_next_seq"),
    (v1.DeleteSessionRequest(session_id="s", guard=_BAD), "guard.expected_next_seq"),
    (v1.ClearMessagesRequest(session_id="s", guard=_BAD), "guard.expected_next_seq"),
    (_append(said(), create_session=v1.Session(id="other")), "create_session.id"),
    (_parts(v1.Part()), "messages[0].parts[0]"),
    (_parts(*[v1.Part(text="x")] * 257), "messages[0].parts"),
    (_parts(v1.Part(image=v1.Media())), "messages[0].parts[0].image"),
    (
        _parts(v1.Part(file=v1.Media(inline=bytes(2**20 + 1)))),
        "messages[0].parts[0].file.inline",
    ),
    (_parts(v1.Part(file=v1.Media(uri="x" * (2**20 + 1)))), "messages[0].parts[0].file.uri"),
    (_calls(v1.ToolCall()), "messages[0].parts[0].tool_call.id"),
    (_calls(v1.ToolCall(id="a\x1fb")), "messages[0].parts[0].tool_call.id"),
    (_calls(*[v1.ToolCall(id="a")] * 257), "messages[0].parts"),
    (v1.ListMessagesRequest(session_id="s", page_size=-5), "page_size"),
    (v1.ListMessagesRequest(session_id="s", from_seq=0), "from_seq"),
    (v1.ListMessagesRequest(session_id="s", around_seq=-1), "around_seq"),
    (v1.ListMessagesRequest(session_id="s", to_seq=0), "to_seq"),
    (v1.ListMessagesRequest(session_id="s", around_seq=3, to_seq=9), "to_seq"),
    (v1.ListMessagesRequest(session_id="s", start_time=Timestamp(nanos=10**9)), "start_time"),
    (v1.ListMessagesRequest(session_id="s", roles=[_NO_ROLE]), "roles[0]"),
    (_continuations_of_contexts(), "continuations"),
    (v1.ListRewindsRequest(session_id="s", page_size=-1), "page_size"),
    (v1.ListCompactionsRequest(session_id="s", page_size=-1), "page_size"),
    (v1.ListOpenToolCallsRequest(session_id="s", page_size=-1), "page_size"),
    (v1.GetMessageRequest(session_id="s"), "message"),
    (v1.GetMessageRequest(session_id="s", seq=0), "seq"),
    (v1.GetMessageRequest(session_id="s", client_id="a b"), "client_id"),
    (v1.UpdateMessagesRequest(session_id="s"), "updates"),
    (_update(v1.Message(seq=1)), "updates[0].update_mask"),
    (_update(v1.Message(seq=1), "text"), "updates[0].update_mask"),
    (_update(v1.Message(seq=1, token_count=-1), "token_count"), "updates[0].message.token_count"),
    (_update(v1.Message(), "kind"), "updates[0].message.seq"),
    (v1.RewindSessionRequest(session_id="s"), "after_seq"),
    (v1.RewindSessionRequest(session_id="s", after_seq=-1), "after_seq"),
    (v1.RevertRewindRequest(session_id="s"), "which"),
    (v1.RevertRewindRequest(session_id="s", newest=False), "newest"),
    (v1.RevertRewindRequest(session_id="s", rewind_id=0), "rewind_id"),
    (v1.GetRewindRequest(session_id="s"), "rewind_id"),
    (v1.OffloadMessagesRequest(session_id="s"), "which"),
    (v1.OffloadMessagesRequest(session_id="s", all=False), "all"),
    (v1.OffloadMessagesRequest(session_id="s", before_seq=0), "before_seq"),
    (v1.RestoreMessagesRequest(session_id="s"), "which"),
    (v1.RestoreMessagesRequest(session_id="s", all=False), "all"),
    (v1.RestoreMessagesRequest(session_id="s", from_seq=0), "from_seq"),
    (v1.DeleteConsumerRequest(consumer_id="c"), "owner"),
    (v1.GetContextRequest(session_id="s", max_context_tokens=-1), "max_context_tokens"),
    (v1.GetContextRequest(session_id="s", max_context_messages=-1), "max_context_messages"),
    (v1.GetContextRequest(session_id="s", as_of_seq=-1), "as_of_seq"),
    (_plan(keep_recent_messages=10_001), "keep_recent_messages"),
    (_plan(summary_token_count=-1), "summary_token_count"),
    (_plan(acquire_lease=True), "holder"),
    (
        _plan(acquire_lease=True, holder="h", lease_ttl=Duration(seconds=3601)),
        "lease_ttl",
    ),
    (_compact(from_seq=3), "to_seq"),
    (_compact(summary=v1.Message(client_id="a b")), "summary.client_id"),
    (
        _compact(summary=v1.Message(parts=[v1.Part(tool_call=v1.ToolCall(id="a"))])),
        "summary.parts[0].tool_call",
    ),
    (
        _compact(summary=v1.Message(parts=[sessiond.tool_result("a")])),
        "summary.parts[0].tool_result",
    ),
    (_compact(tokens_before=-1), "tokens_before"),
    (_compact(author=_LONG), "author"),
    (v1.RevertCompactionRequest(session_id="s"), "compaction_id"),
    (v1.GetCompactionRequest(session_id="s"), "compaction_id"),
    (v1.RenewCompactionLeaseRequest(session_id="s"), "lease_token"),
    (v1.ReleaseCompactionLeaseRequest(session_id="s"), "lease_token"),
    (v1.AcquireWriterRequest(session_id="s"), "holder"),
    (v1.AcquireWriterRequest(session_id="s", holder="h", lease_ttl=Duration(nanos=1)), "lease_ttl"),
    (
        v1.AcquireWriterRequest(session_id="s", holder="h", lease_ttl=Duration(nanos=2 * 10**9)),
        "lease_ttl",
    ),
    (v1.RenewWriterRequest(session_id="s"), "writer_token"),
    (v1.ReleaseWriterRequest(session_id="s"), "writer_token"),
    (v1.GetAttachmentRequest(session_id="s"), "attachment_id"),
    (v1.GetAttachmentRequest(session_id="s", attachment_id="a b"), "attachment_id"),
    (v1.DownloadAttachmentRequest(session_id="s", attachment_id="a", offset=-1), "offset"),
    (v1.DownloadAttachmentRequest(session_id="s", attachment_id="a", length=-1), "length"),
    (v1.ListAttachmentsRequest(session_id="s", page_size=-1), "page_size"),
    (v1.ListAttachmentsRequest(session_id="s", path_prefix="a\0"), "path_prefix"),
    (v1.ListAttachmentsRequest(session_id="s", path_prefix="a" * 1025), "path_prefix"),
    (v1.DeleteAttachmentRequest(session_id="s"), "attachment_id"),
    (v1.StartUploadRequest(session_id="s"), "size"),
    (v1.StartUploadRequest(session_id="s", size=-1), "size"),
    (v1.StartUploadRequest(session_id="s", size=1, sha256=b"x"), "sha256"),
    (
        v1.StartUploadRequest(session_id="s", size=1, attachment=v1.Attachment(id="a b")),
        "attachment.id",
    ),
    (v1.WriteUploadRequest(session_id="s"), "upload_token"),
    (v1.WriteUploadRequest(session_id="s", upload_token="t", offset=-1), "offset"),
    (v1.WriteUploadRequest(session_id="s", upload_token="t", chunk=bytes(2**20 + 1)), "chunk"),
    (v1.GetUploadRequest(session_id="s"), "upload_token"),
    (v1.AbortUploadRequest(session_id="s"), "upload_token"),
    (_renamed(paths=["name"], id=""), "attachment.id"),
    (_renamed(paths=["name"], name="../x"), "attachment.name"),
    (_renamed(paths=["name"], name="x" * 1025), "attachment.name"),
    (_renamed(paths=["mime_type"], mime_type="png"), "attachment.mime_type"),
    (_renamed(paths=["disposition"], disposition=9), "attachment.disposition"),
    (_renamed(paths=["name"], etag="x" * 257), "attachment.etag"),
    (_renamed(paths=[]), "update_mask"),
    (_renamed(paths=["sha256"]), "update_mask"),
    (_renamed(paths=["metadata.a.b"]), "update_mask"),
    (_renamed(paths=[f"metadata.k{n}" for n in range(201)]), "update_mask"),
]
"""Pairs of a request and the first field that is wrong with it."""
