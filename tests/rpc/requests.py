"""Requests of every kind, made from the descriptors: sensible ones, and each with something odd in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sessiond import v1
from tests.rpc.odd_values import odd_values
from tests.rpc.world import World

_WELL_KNOWN = "google.protobuf."
_DESTRUCTIVE = ("DeleteSession", "ClearMessages", "EndSession")
_LEASING = ("AcquireWriter", "PlanCompaction")
_UNSURE = "no-such-session"
_ODD = ("-", "-", " ü/%'\"\\_ 👩‍👩‍👧 e\u0301 ")
"""What ids of new sessions may hold."""
_SESSION_PATHS = ["title", "pinned", "metadata", "labels", "state", "system_prompt", "config"]
_MESSAGE_PATHS = ["hidden_from_model", "kind", "token_count", "type", "elapsed", "metadata"]
_LIKELY = {
    "sessiond.v1.AcquireWriterRequest.holder": 1.0,
    "sessiond.v1.AppendMessagesRequest.create_session": 0.05,
    "sessiond.v1.CompactSessionRequest.from_seq": 1.0,
    "sessiond.v1.CompactSessionRequest.to_seq": 1.0,
    "sessiond.v1.GetMessageRequest.seq": 0.8,
    "sessiond.v1.GetMessageRequest.client_id": 0.8,
    "sessiond.v1.MessageUpdate.message": 1.0,
    "sessiond.v1.MessageUpdate.update_mask": 1.0,
    "sessiond.v1.Message.seq": 0.9,
    "sessiond.v1.Message.parts": 1.0,
    "sessiond.v1.NextTitleRequest.title": 1.0,
    "sessiond.v1.Media.uri": 0.9,
    "sessiond.v1.Part.text": 0.6,
    "sessiond.v1.Part.json": 1.0,
    "sessiond.v1.CreateReminderRequest.reminder": 1.0,
    "sessiond.v1.CreateReminderRequest.delay": 0.7,
    "sessiond.v1.CancelReminderRequest.reminder_id": 1.0,
    "sessiond.v1.CompleteReminderRequest.reminder_id": 1.0,
    "sessiond.v1.CompleteReminderRequest.claim_token": 1.0,
    "sessiond.v1.ExtendReminderClaimRequest.reminder_id": 1.0,
    "sessiond.v1.ExtendReminderClaimRequest.claim_token": 1.0,
    "sessiond.v1.FailReminderRequest.reminder_id": 1.0,
    "sessiond.v1.FailReminderRequest.claim_token": 1.0,
    "sessiond.v1.GetReminderRequest.reminder_id": 1.0,
    "sessiond.v1.SkipReminderRequest.reminder_id": 1.0,
    "sessiond.v1.ClaimSessionsRequest.consumer_id": 1.0,
    "sessiond.v1.GetCursorRequest.consumer_id": 1.0,
    "sessiond.v1.SetCursorRequest.consumer_id": 1.0,
    "sessiond.v1.ExtendSessionClaimRequest.consumer_id": 1.0,
    "sessiond.v1.ExtendSessionClaimRequest.claim_token": 1.0,
    "sessiond.v1.ReleaseCompactionLeaseRequest.lease_token": 1.0,
    "sessiond.v1.ReleaseWriterRequest.writer_token": 1.0,
    "sessiond.v1.RenewWriterRequest.writer_token": 1.0,
    "sessiond.v1.ResolveSessionRequest.query": 1.0,
    "sessiond.v1.RevertCompactionRequest.compaction_id": 1.0,
    "sessiond.v1.RewindSessionRequest.after_seq": 1.0,
    "sessiond.v1.RevertRewindRequest.rewind_id": 0.8,
    "sessiond.v1.RevertRewindRequest.newest": 0.8,
    "sessiond.v1.GetRewindRequest.rewind_id": 1.0,
    "sessiond.v1.GetCompactionRequest.compaction_id": 1.0,
    "sessiond.v1.RenewCompactionLeaseRequest.lease_token": 1.0,
    "sessiond.v1.OffloadMessagesRequest.before_seq": 0.8,
    "sessiond.v1.RestoreMessagesRequest.from_seq": 0.8,
    "sessiond.v1.DeleteConsumerRequest.consumer_id": 1.0,
    "sessiond.v1.DeleteConsumerRequest.owner": 1.0,
    "sessiond.v1.SearchMessagesRequest.query": 1.0,
    "sessiond.v1.SessionFilter.whole_tenant": 0.9,
    "sessiond.v1.SessionFilter.states": 0.1,
    "sessiond.v1.SessionFilter.subtree_of": 0.1,
    "sessiond.v1.SessionFilter.create_time": 0.1,
    "sessiond.v1.SessionFilter.last_activity_time": 0.1,
    "sessiond.v1.SessionFilter.end_time": 0.1,
    "sessiond.v1.SearchMessagesRequest.context_before": 0.1,
    "sessiond.v1.SearchMessagesRequest.context_after": 0.1,
    "sessiond.v1.SearchMessagesRequest.snippet_characters": 0.3,
    "sessiond.v1.ReindexSessionsRequest.all": 0.1,
    "sessiond.v1.SessionParent.kind": 1.0,
    "sessiond.v1.Session.id": 0.9,
    "sessiond.v1.Session.parent": 0.05,
    "sessiond.v1.Session.state": 0.1,
    "sessiond.v1.ToolCall.id": 1.0,
    "sessiond.v1.StartUploadRequest.size": 1.0,
    "sessiond.v1.UploadAttachmentRequest.last": 1.0,
    "sessiond.v1.WriteUploadRequest.upload_token": 1.0,
    "sessiond.v1.UploadAttachmentRequest.size": 0.02,
    "sessiond.v1.UpdateMessagesRequest.updates": 1.0,
    "sessiond.v1.RecordUsageRequest.records": 1.0,
    "sessiond.v1.UpdateAttachmentRequest.attachment": 1.0,
    "sessiond.v1.UpdateAttachmentRequest.update_mask": 1.0,
    "sessiond.v1.UpdateSessionRequest.session": 1.0,
    "sessiond.v1.UpdateSessionRequest.update_mask": 1.0,
}
"""How likely a field is in a sensible request, where it is the deeper checks that it decides about."""


def _fields(message: Message) -> list[FieldDescriptor]:
    return list(message.DESCRIPTOR.fields)  # type: ignore[arg-type]


def _is_map(field: FieldDescriptor) -> bool:
    entry = field.message_type
    return bool(field.is_repeated and entry is not None and entry.GetOptions().map_entry)


_OUT_OF_PLACE = {
    ("fork", "parent"),
    ("create_session", "id"),
    ("create_session", "parent"),
    ("reminder", "trigger_time"),
}
"""A field of a message, and one of that which is refused there: it comes as an oddity."""


class Requests:
    """Makes requests about a world. `seed` makes them the same again."""

    def __init__(self, world: World, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = world
        self._number = 0
        self._by_name: dict[str, Callable[[], Any]] = {
            "session_id": self._session_id,
            "parent_id": self._session_id,
            "subtree_of": self._session_id,
            "client_id": self._client_id,
            "attachment_id": lambda: self.random.choice(self.world.attachment_ids),
            "path_prefix": lambda: self.random.choice(["", "d/"]),
            "mime_type": lambda: self.random.choice(["", "image/png"]),
            "sha256": lambda: b"",
            "tool_call_id": lambda: f"call-{self._int(1, 5)}",
            "writer_token": lambda: self._pick(self.world.tokens, 0.7),
            "upload_token": lambda: self._pick(self.world.upload_tokens, 0.7),
            "lease_token": lambda: self._pick(self.world.tokens, 0.7),
            "etag": lambda: self._pick(self.world.etags, 0.7),
            "page_token": lambda: self._pick(self.world.page_tokens, 0.7),
            "query": lambda: self._pick([*self.world.ids, *self.world.titles], 0.1),
            "title": lambda: self._pick([*self.world.titles, f"t{self._int(0, 10**6)}"], 0.2),
            "page_size": lambda: self._int(0, 5),
            "seq": lambda: self._int(1, 12),
            "at_seq": lambda: self.random.choice([0, 3, 8]),
            "from_seq": lambda: self._int(1, 6),
            "to_seq": lambda: self._int(4, 11),
            "holder": lambda: self.random.choice(["writer", "compactor", "a", "b"]),
            "request_id": lambda: f"request-{self._int(0, 9)}",
            "expected_next_seq": lambda: self.random.choice([0, 0, 9, 10]),
            "expected_revision": lambda: self.random.choice([0, 0, 10, 14]),
            "compaction_id": lambda: self.random.choice([9, 12, 13]),
            "rewind_id": lambda: self._int(0, 4),
            "name": lambda: "text",
            "policy_id": lambda: self.random.choice(["policy-a", "policy-b"]),
            "reminder_id": lambda: self.random.choice(["r1", "r2", "done"]),
            "consumer_id": lambda: self.random.choice(["memory", "titles"]),
            "claim_token": lambda: self._pick(self.world.tokens, 0.2),
        }
        self._by_full_name: dict[str, Callable[[], Any]] = {
            "sessiond.v1.Session.id": self._new_or_known,
            "sessiond.v1.RetentionPolicy.id": lambda: self.random.choice(["policy-a", "policy-b"]),
            "sessiond.v1.Session.state": lambda: self.random.choice([1, 3]),
            "sessiond.v1.SessionParent.kind": lambda: self._int(1, 2),
            "sessiond.v1.SessionParent.id": self._session_id,
            "sessiond.v1.Attachment.id": lambda: self._pick(self.world.attachment_ids, 0.8),
            "sessiond.v1.ToolCall.id": lambda: f"call-{self._int(1, 5)}",
            "sessiond.v1.Cost.currency": lambda: self.random.choice(["", "EUR"]),
            "sessiond.v1.Cost.estimated": lambda: f"0.{self._int(0, 999)}",
            "sessiond.v1.Cost.actual": lambda: f"{self._int(0, 99)}",
            "sessiond.v1.GetUsageRequest.from_day": lambda: "2026-01-31",
            "sessiond.v1.GetUsageRequest.to_day": lambda: "9999-12-31",
            "sessiond.v1.Reminder.id": lambda: self.random.choice(
                ["", "r1", f"r{self._int(3, 99)}"]
            ),
        }

    def _int(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def _pick(self, values: list[str], empty: float) -> str:
        return "" if self.random.random() < empty else self.random.choice(values)

    def _session_id(self) -> str:
        return self.random.choice(self.world.ids)

    def _new_or_known(self) -> str:
        self._number += 1
        known = self.random.random() < 0.3
        if known:
            return self._session_id()
        return f"made{self.random.choice(_ODD)}{self._int(0, 2**60)}-{self._number}"

    def _client_id(self) -> str:
        self._number += 1
        if self.random.random() < 0.1:
            return self.random.choice(self.world.client_ids)
        return f"c-{self._int(0, 2**60)}-{self._number}"

    def sensible(self, method: MethodDescriptor, *, full: bool = False) -> Message:
        """A request that could be right; `full` has every field."""
        request = GetMessageClass(method.input_type)()
        self._fill(request, full)
        if method.name in _DESTRUCTIVE and self.random.random() < 0.96:
            request.session_id = _UNSURE  # type: ignore[attr-defined]
        if method.name == "PruneSessions":
            request.rule.sessions.owner = "nobody"  # type: ignore[attr-defined]
        if method.name == "SetRetentionPolicy":
            request.policy.rule.sessions.owner = "nobody"  # type: ignore[attr-defined]
        if method.name in _LEASING and self.random.random() < 0.9:
            request.session_id = self.world.leased  # type: ignore[attr-defined]
        if "wait" in request.DESCRIPTOR.fields_by_name:
            request.wait.seconds = 0  # type: ignore[attr-defined]
        return request

    def _fill(self, message: Message, full: bool, within: str = "") -> None:
        for field in _fields(message):
            required = field.name in (
                "session_id",
                "client_id",
                "role",
                "messages",
                "appends",
                "summary",
            )
            if (
                not full
                and not required
                and self.random.random() > _LIKELY.get(field.full_name, 0.3)
            ):
                continue
            if (within, field.name) in _OUT_OF_PLACE:
                continue
            if field.containing_oneof is not None and message.WhichOneof(
                field.containing_oneof.name
            ):
                continue
            self._set(message, field, full)
        if isinstance(message, v1.Message):
            self._speak(message, within)

    def _speak(self, message: v1.Message, within: str) -> None:
        """Have it say what its role may."""
        if within in ("summary", "message"):
            message.role = v1.Role.ROLE_USER
        if message.role == v1.Role.ROLE_ASSISTANT:
            return
        for part in message.parts:
            if message.role == v1.Role.ROLE_TOOL:
                part.tool_result.tool_call_id = f"call-{self._int(1, 5)}"
            elif part.WhichOneof("content") in ("reasoning", "tool_call", "tool_result", "refusal"):
                part.text = "text"

    def _set(self, message: Message, field: FieldDescriptor, full: bool) -> None:
        if _is_map(field):
            self._set_map(message, field)
        elif field.is_repeated:
            one = full or field.full_name == "sessiond.v1.Usage.costs"
            for _ in range(1 if one else self._int(1, 3)):
                self._add(getattr(message, field.name), field, full)
        elif field.message_type is None:
            setattr(message, field.name, self._scalar(field))
        elif not field.message_type.full_name.startswith(_WELL_KNOWN):
            child = getattr(message, field.name)
            child.SetInParent()
            self._fill(child, full, field.name)
        else:
            self._set_known(message, getattr(message, field.name), field.message_type)

    def _add(self, values: Any, field: FieldDescriptor, full: bool) -> None:
        if field.message_type is None:
            values.append(self._scalar(field))
        else:
            self._fill(values.add(), full, field.name)

    def _set_map(self, message: Message, field: FieldDescriptor) -> None:
        assert field.message_type is not None
        value = field.message_type.fields_by_name["value"]
        if value.message_type is None:
            getattr(message, field.name)["key"] = self._scalar(value)

    def _set_known(self, message: Message, child: Any, descriptor: Descriptor) -> None:
        child.SetInParent()
        if descriptor.name == "FieldMask":
            of_message = message.DESCRIPTOR.name == "MessageUpdate"
            child.paths.append(self.random.choice(_MESSAGE_PATHS if of_message else _SESSION_PATHS))
        elif descriptor.name == "Struct":
            child.update({"a": 1, "b": [True, None, "x"]})
        elif descriptor.name in ("Timestamp", "Duration"):
            child.seconds = self._int(1, 60)

    def _scalar(self, field: FieldDescriptor) -> Any:
        make = self._by_full_name.get(field.full_name) or self._by_name.get(field.name)
        if make is not None:
            return make()
        if field.enum_type is not None:
            return self.random.choice(field.enum_type.values[1:]).number
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return b"{}" if field.type == FieldDescriptor.TYPE_BYTES else "text"
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self.random.random() < 0.5
        return self._int(0, 12)

    def every_oddity(self, method: MethodDescriptor) -> Iterator[bytes]:
        """Each field at any depth with each odd value, in a request that is else sensible."""
        for place, (_, field) in enumerate(places(self.sensible(method, full=True))):
            for value in _oddities(field):
                request = self.sensible(method, full=True)
                found = next(islice(places(request), place, None), None)
                if found is not None and found[1].full_name == field.full_name:
                    yield _put(request, *found, value)

    def random_oddity(self, method: MethodDescriptor) -> bytes:
        """One to three odd values in a sensible request, or odd bytes."""
        request = self.sensible(method, full=self.random.random() < 0.1)
        if self.random.random() < 0.25:
            return self.odd_bytes(method, request.SerializeToString())
        encoded = request.SerializeToString()
        for _ in range(self._int(0, 3) if request.DESCRIPTOR.fields else 0):
            container, field = self.random.choice(list(places(request)))
            encoded = _put(request, container, field, self.random.choice(list(_oddities(field))))
        return encoded

    def odd_bytes(self, method: MethodDescriptor, encoded: bytes) -> bytes:
        """Not quite the encoding of a request, or not at all."""
        kind = self._int(0, 5)
        if kind == 0:
            return self.random.randbytes(self._int(0, 200))
        if kind == 1:
            return encoded[: self._int(0, len(encoded))]
        if kind == 2:  # the two merged: repeated fields joined, oneofs set twice
            return encoded + self.sensible(method).SerializeToString()
        if kind == 3:  # unknown fields of every wire type
            return (
                encoded + b"\xa2\x7d\x03abc\xa8\x7d\x01\xb1\x7d" + bytes(8) + b"\xbd\x7d" + bytes(4)
            )
        if kind == 4:  # the same fields with another wire type
            return encoded + bytes([self._int(0, 255), self._int(0, 127)])
        changed = bytearray(encoded or b"\0")
        for _ in range(self._int(1, 4)):
            changed[self._int(0, len(changed) - 1)] ^= 1 << self._int(0, 7)
        return bytes(changed)


def places(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Every field that can be set, in the message and those in it."""
    for field in _fields(message):
        yield message, field
        kind = field.message_type
        if kind is None or _is_map(field) or kind.full_name.startswith(_WELL_KNOWN):
            continue
        value = getattr(message, field.name)
        children = list(value)[:1] if field.is_repeated else [value]
        for child in children:
            if field.is_repeated or message.HasField(field.name):
                yield from places(child)


def _oddities(field: FieldDescriptor) -> Iterator[Any]:
    """Odd values; of a repeated field, odd lists."""
    if _is_map(field):
        assert field.message_type is not None
        keys = odd_values(field.message_type.fields_by_name["key"])
        yield from ([], [[key] for key in keys[:20]], [[f"k{n}"] for n in range(300)])
        return
    if not field.is_repeated:
        yield from odd_values(field)
        return
    if field.message_type is not None:
        yield from ([], [None] * 65, [None] * 1001)
        return
    odd = odd_values(field)
    yield from ([], *([value] for value in odd), odd[:20], odd[:1] * 300)


def _put(request: Message, container: Message, field: FieldDescriptor, value: Any) -> bytes:
    """The request with an odd value in a field of it."""
    if value is None or value == []:
        container.ClearField(field.name)
    elif _is_map(field):
        assert field.message_type is not None
        binary = field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_BYTES
        for (key,) in value:
            getattr(container, field.name)[key] = b"v" if binary else key
    elif field.is_repeated:
        _put_list(getattr(container, field.name), value)
    elif isinstance(value, Message):
        getattr(container, field.name).CopyFrom(value)
    else:
        setattr(container, field.name, value)
    return request.SerializeToString()


def _put_list(values: Any, wanted: list[Any]) -> None:
    if wanted[0] is None and len(values):
        first = type(values[0])()
        first.CopyFrom(values[0])
        values.extend([first] * (len(wanted) - len(values)))
    elif wanted[0] is not None:
        del values[:]
        values.extend(wanted)
