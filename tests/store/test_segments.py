"""What goes into a segment comes out of it (P10), whatever the client ids and payloads look like."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from sessiond import v1
from sessiond_server.store import segments
from sessiond_server.store.segments import FullMessage

_TEXTS = st.text(
    st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40
) | st.uuids().map(lambda it: str(it).upper())
_CLIENT_IDS = st.uuids().map(str) | _TEXTS


@st.composite
def messages(draw: st.DrawFn) -> list[FullMessage]:
    made = []
    for seq in range(7, 7 + draw(st.integers(1, 12))):
        client_id = draw(_CLIENT_IDS)
        encoded = v1.Message(
            parts=[v1.Part(text=draw(st.text()))], client_id=client_id
        ).SerializeToString()
        made.append(
            FullMessage(
                seq,
                draw(st.datetimes(datetime(1950, 1, 1), timezones=st.just(UTC))),
                draw(st.integers(0, 2**31 - 1)),
                draw(st.integers(0, 255)),
                draw(st.integers(0, 63)),
                draw(st.booleans()),
                draw(st.booleans()),
                draw(st.booleans()),
                client_id,
                draw(st.none() | _TEXTS),
                draw(st.none() | st.lists(_TEXTS, min_size=1, max_size=3)),
                draw(st.none() | st.lists(_TEXTS, min_size=1, max_size=3)),
                draw(st.sampled_from([encoded, encoded * 2, encoded[:-1]]) | st.binary()),
            )
        )
    return made


@given(messages(), st.none() | st.binary(min_size=8, max_size=99), st.sampled_from([1, 19]))
def test_P10_a_segment_gives_back_what_it_was_made_of(
    made: list[FullMessage], dictionary: bytes | None, level: int
) -> None:
    content = segments.compress(made, level, dictionary)
    assert segments.expand(content, made[0].seq, dictionary) == made


def test_a_client_id_takes_its_bytes_once() -> None:
    """UUIDs by time, as the client library makes them."""
    ids = [
        str(UUID(int=(0x01A1FD3A9D457 << 76) + (n * 0x9E3779B97F4A7C15 % 2**64)))
        for n in range(200)
    ]
    made = [
        FullMessage(
            seq,
            datetime(2026, 1, 1, tzinfo=UTC),
            *(0, 1, 1, True, True, False),
            id,
            None,
            None,
            None,
            v1.Message(parts=[v1.Part(text="yes")], client_id=id).SerializeToString(),
        )
        for seq, id in enumerate(ids, start=1)
    ]
    assert len(segments.compress(made, 19)) < 200 * 11
