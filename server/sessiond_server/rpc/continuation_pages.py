"""Pages over a whole conversation: ListMessages with `continuations`."""

from __future__ import annotations

from dataclasses import replace

from sessiond.v1 import message_service_pb2 as rpc
from sessiond_server.operations import continuations
from sessiond_server.operations.continuations import Conversation, Piece, Place
from sessiond_server.operations.reading import Reading
from sessiond_server.rpc import access, checks, messages_out, page_tokens
from sessiond_server.store.database import Connection

_MESSAGES = rpc.ListMessagesResponse.DESCRIPTOR.fields_by_name["messages"].number


async def answer(
    connection: Connection, request: rpc.ListMessagesRequest, wanted: Reading
) -> bytes:
    """One page, encoded."""
    call = page_tokens.call_of("ListMessages", request)
    descending, place = wanted.descending, None
    if request.page_token:
        direction, session_id, position = page_tokens.decode(
            request.page_token, call, bool, str, int
        )
        descending, place = bool(direction), Place(str(session_id), int(position or 0))
    wanted = replace(wanted, descending=descending)
    found = await continuations.find(connection, access.tenant(), access.owner(), wanted)
    if place is None and request.WhichOneof("start") == "around_seq":
        pieces, following, previous = await continuations.page_around(
            connection, found, request.around_seq
        )
        return _encoded(pieces, _token(False, following, call), _token(True, previous, call))
    if place is None:
        place = await _start(connection, request, found)
    pieces, following = await continuations.page(connection, found, place)
    return _encoded(pieces, _token(descending, following, call), "")


async def _start(
    connection: Connection, request: rpc.ListMessagesRequest, found: Conversation
) -> Place:
    start = request.WhichOneof("start")
    if start == "from_seq":
        return Place(request.session_id, request.from_seq)
    if start == "start_time":
        return await continuations.at_time(connection, found, checks.moment(request.start_time))
    return found.start()


def _token(descending: bool, place: Place | None, call: bytes) -> str:
    if place is None:
        return ""
    return page_tokens.encode([descending, place.session_id, place.position], call)


def _encoded(pieces: list[Piece], following: str, previous: str) -> bytes:
    page = rpc.ListMessagesResponse(next_page_token=following, previous_page_token=previous)
    encoded = [page.SerializeToString()]
    for piece in pieces:
        encoded += (
            messages_out.as_field(
                _MESSAGES, messages_out.encoded(message, piece.read.marks, piece.session_id)
            )
            for message in piece.read.messages
        )
    return b"".join(encoded)
