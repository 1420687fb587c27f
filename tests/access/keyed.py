"""A server that wants keys, and callers with different ones."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import grpc

import sessiond
from sessiond import Client, v1
from tests.support.processes import ServerProcess


def keys_command(dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`sessiond keys …` as an operator runs it."""
    command = [sys.executable, "-m", "sessiond_server", "keys", *arguments, "--dsn", dsn]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def make_key(dsn: str, *arguments: str) -> str:
    """A new key."""
    made = keys_command(dsn, "create", "--name", "test", *arguments)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@dataclass
class Keyed:
    """The server, and keys of one tenant's service, of two of its owners, and of another tenant."""

    server: ServerProcess
    dsn: str
    service: str
    ada: str
    bob: str
    elsewhere: str

    def client(self, key: str) -> Client:
        return Client(self.server.target, api_key=key)


def start_keyed(dsn: str) -> Keyed:
    everything = "--permissions", "read,write,admin"
    keys = [
        make_key(dsn, *everything),
        make_key(dsn, "--owner", "ada"),
        make_key(dsn, "--owner", "bob"),
        make_key(dsn, "--tenant", "elsewhere", *everything),
    ]
    return Keyed(ServerProcess(SESSIOND_DSN=dsn, SESSIOND_AUTH="keys"), dsn, *keys)


class Raw:
    """Calls by bytes with a key, for every method alike."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def call(self, method: Any, *requests: bytes) -> list[bytes]:
        """What a method answers; of a stream that doesn't end by itself the first frame. Raises RpcError."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        sent: Any = iter(requests) if method.client_streaming else requests[0]
        kind = f"{'stream' if method.client_streaming else 'unary'}_"
        kind += "stream" if method.server_streaming else "unary"
        call = getattr(self._channel, kind)(path)(sent, metadata=self._metadata, timeout=60)
        if not method.server_streaming:
            return [call]
        found = []
        for item in call:
            found.append(item)
            if method.name.startswith("Watch"):
                call.cancel()
                break
        return found


def said(text: str, **fields: Any) -> v1.Message:
    return sessiond.message("user", text, **fields)
