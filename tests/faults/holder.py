"""A writer in a process of its own, to be paused: `python -m tests.faults.holder TARGET SESSION`.

It takes the writer lease for a second, and appends without ever looking up: for each append it prints its
client id, then the seq or why it was refused. It ends when it has been refused.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from typing import Any, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc_status import rpc_status

from sessiond import v1
from tests.faults.load import message

TTL = Duration(seconds=1)


def _append(stub: v1.MessageServiceStub, request: v1.AppendMessagesRequest) -> str:
    try:
        return str(stub.AppendMessages(request, timeout=30).first_seq)
    except grpc.RpcError as error:
        status = rpc_status.from_call(cast("Any", error))
        return status.message if status else error.details() or "no details"


def main() -> None:
    target, session = sys.argv[1:]
    with grpc.insecure_channel(target) as channel:
        lease = v1.WriterServiceStub(channel).AcquireWriter(
            v1.AcquireWriterRequest(session_id=session, holder="paused", lease_ttl=TTL)
        )
        messages = v1.MessageServiceStub(channel)
        for number in itertools.count():
            client_id = f"paused.{number}"
            request = v1.AppendMessagesRequest(
                session_id=session,
                messages=[message(client_id, random.Random(client_id))],
                guard=v1.WriteGuard(writer_token=lease.writer_token),
            )
            print(client_id, flush=True)
            answer = _append(messages, request)
            print(answer, flush=True)
            if not answer.isdigit():
                return
            time.sleep(0.01)


if __name__ == "__main__":
    main()
