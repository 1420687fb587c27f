"""Random histories of attachments against a model: names, ids, bytes, forks and deletions."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sessiond import v1
from sessiond_server.sessions.file_names import unused
from tests.rpc.api import Api, new, refused

NAMES = ["a", "a.txt", "a/b.txt", "a/b/c", "b.txt", "b", "ü/ä.png", "a_1.txt"]
STEPS = 120


class Model:
    """What each session should hold: attachments by id, each with its name and bytes."""

    def __init__(self, api: Api, seed: int) -> None:
        self.api = api
        self.chance = random.Random(seed)
        self.sessions: dict[str, dict[str, tuple[str, bytes]]] = {}
        self.contents = [self.chance.randbytes(size) for size in (0, 9, 300_000, 1_200_000)]

    def run(self) -> None:
        doings: list[Callable[[str], None]] = [self.upload] * 5
        doings += [self.rename] * 3
        doings += [self.repeat, self.delete, self.fork, self.clear, self.remove, self.download]
        for _ in range(STEPS):
            if not self.sessions or (len(self.sessions) < 4 and self.chance.random() < 0.2):
                self.sessions[self.api.create().id] = {}
            self.chance.choice(doings)(self.chance.choice(list(self.sessions)))
        for id, held in self.sessions.items():
            self.compare(id)
            for attachment, (_, content) in held.items():
                assert self.api.download(id, attachment) == content

    def compare(self, id: str) -> None:
        prefix = self.chance.choice(["", "a", "a/", "a/b", "ü/", "b."])
        found = [(it.name, it.id, it.size) for it in self.api.files(id, prefix)]
        assert found == sorted(
            (name, attachment, len(content))
            for attachment, (name, content) in self.sessions[id].items()
            if name.startswith(prefix)
        )

    def upload(self, id: str) -> None:
        name, content = self.chance.choice(NAMES), self.chance.choice(self.contents)
        stored = self.api.upload(id, content, name, id=new("a"))
        expected = unused(name, [held for held, _ in self.sessions[id].values()])
        assert (stored.attachment.name, stored.replayed) == (expected, False)
        self.sessions[id][stored.attachment.id] = (expected, content)
        self.compare(id)

    def _some(self, id: str) -> str | None:
        return self.chance.choice([*self.sessions[id]]) if self.sessions[id] else None

    def repeat(self, id: str) -> None:
        if (attachment := self._some(id)) is not None:
            name, content = self.sessions[id][attachment]
            again = self.api.upload(id, content, "other", id=attachment)
            assert (again.attachment.name, again.replayed) == (name, True)
            other = refused(lambda: self.api.upload(id, content + b"x", id=attachment))
            assert other.reason == "ATTACHMENT_ID_REUSED"

    def rename(self, id: str) -> None:
        if (attachment := self._some(id)) is not None:
            name, content = self.chance.choice(NAMES), self.sessions[id][attachment][1]
            others = [held for key, (held, _) in self.sessions[id].items() if key != attachment]
            for _ in range(2):  # again is the same
                renamed = self.api.change_file(id, attachment, "name", name=name)
                assert renamed.name == unused(name, others)
            self.sessions[id][attachment] = (renamed.name, content)
            self.compare(id)

    def delete(self, id: str) -> None:
        if (attachment := self._some(id)) is not None:
            request = v1.DeleteAttachmentRequest(session_id=id, attachment_id=attachment)
            assert self.api.attachments.DeleteAttachment(request).deleted
            del self.sessions[id][attachment]
            self.compare(id)

    def fork(self, id: str) -> None:
        self.sessions[self.api.fork(id).id] = dict(self.sessions[id])

    def clear(self, id: str) -> None:
        with_files = self.chance.random() < 0.5
        request = v1.ClearMessagesRequest(session_id=id, delete_attachments=with_files)
        count = self.api.messages.ClearMessages(request).attachment_count
        assert count == (len(self.sessions[id]) if with_files else 0)
        if with_files:
            self.sessions[id].clear()
        self.compare(id)

    def remove(self, id: str) -> None:
        self.api.delete(id)
        del self.sessions[id]

    def download(self, id: str) -> None:
        if (attachment := self._some(id)) is not None:
            _, content = self.sessions[id][attachment]
            offset = self.chance.randint(0, len(content))
            length = self.chance.choice([0, self.chance.randint(1, len(content) + 1)])
            end = offset + length if length else len(content)
            assert self.api.download(id, attachment, offset, length) == content[offset:end]


@pytest.mark.parametrize("seed", range(4))
def test_A_files_of_a_session_are_those_of_a_model(api: Api, seed: int) -> None:
    Model(api, seed).run()
