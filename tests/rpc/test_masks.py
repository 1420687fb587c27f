"""Updates of single labels and fields of the metadata: what their masks name changes, and nothing else."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond import v1
from tests.rpc.api import Api, refused
from tests.support.examples import examples
from tests.support.processes import ServerProcess

KEYS = st.sampled_from(("a", "b-1", "a.b", "`", "``x", "labels", "é", "א ב", "🙂", " "))
PLAIN = frozenset({"a", "b-1", "labels"})
LABELS = st.dictionaries(KEYS, st.sampled_from(("", "1", "zwei")), max_size=6)
VALUES = st.sampled_from((None, 1.0, "x", [1.0, None], {"a": {"b": 1.0}}))
METADATA = st.dictionaries(KEYS | st.just(""), VALUES, max_size=6)


def path(field: str, key: str, *, quoted: bool) -> str:
    if key in PLAIN and not quoted:
        return f"{field}.{key}"
    return f"{field}.`{key.replace('`', '``')}`"


def updated(stored: dict[str, Any], sent: dict[str, Any], keys: set[str] | None) -> dict[str, Any]:
    """The rule once more; `None` is the whole field."""
    if keys is None:
        return sent
    rest = {key: value for key, value in stored.items() if key not in keys}
    return rest | {key: value for key, value in sent.items() if key in keys}


STEPS = st.lists(
    st.tuples(
        LABELS,
        METADATA,
        st.none() | st.sets(KEYS, max_size=3),
        st.none() | st.sets(KEYS | st.just(""), max_size=3),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(labels=LABELS, metadata=METADATA, steps=STEPS)
@settings(max_examples=examples(40))
def test_an_update_of_single_keys_changes_these_and_nothing_else(
    server: ServerProcess, labels: dict[str, str], metadata: dict[str, Any], steps: list[Any]
) -> None:
    with grpc.insecure_channel(server.target) as channel:
        check_updates(Api(channel), labels, metadata, steps)


def check_updates(
    api: Api, labels: dict[str, str], metadata: dict[str, Any], steps: list[Any]
) -> None:
    id = api.create(labels=labels, metadata=ParseDict(metadata, Struct())).id
    for new_labels, new_metadata, label_keys, metadata_keys, quoted in steps:
        request = v1.UpdateSessionRequest(session=v1.Session(id=id, labels=new_labels))
        ParseDict(new_metadata, request.session.metadata)
        for field, keys in (("labels", label_keys), ("metadata", metadata_keys)):
            named = [field] if keys is None else [path(field, k, quoted=quoted) for k in keys]
            request.update_mask.paths.extend(named)
        if not request.update_mask.paths:
            assert refused(partial(api.sessions.UpdateSession, request)).fields == ["update_mask"]
            continue
        api.sessions.UpdateSession(request)
        labels = updated(labels, new_labels, label_keys)
        metadata = updated(metadata, new_metadata, metadata_keys)
        found = api.full(id)
        assert dict(found.labels) == labels
        assert MessageToDict(found.metadata) == metadata


@pytest.mark.parametrize(
    "wrong", ["labels.", "labels.a.b", "labels.é", "labels.`a", "title.x", "metadata.a.b", "owner"]
)
def test_P14_a_path_that_names_nothing_is_refused(api: Api, wrong: str) -> None:
    id = api.create(labels={"a": "1"}).id
    found = refused(lambda: api.update(id, wrong, "labels.a"))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ["update_mask"])
    assert dict(api.get(id).labels) == {"a": "1"}


def test_P14_what_updates_of_single_keys_make_keeps_the_limits_of_the_whole(api: Api) -> None:
    labels = {f"k{n}": "v" for n in range(64)}
    metadata = ParseDict({"a": "x" * 40_000}, Struct())
    id = api.create(labels=labels, metadata=metadata).id
    one_more = refused(lambda: api.update(id, "labels.new", labels={"new": "v"}))
    assert (one_more.reason, one_more.fields) == ("INVALID_FIELD", ["session.labels"])
    other = ParseDict({"b": "x" * 40_000}, Struct())
    too_large = refused(lambda: api.update(id, "metadata.b", metadata=other))
    assert (too_large.reason, too_large.fields) == ("INVALID_FIELD", ["session.metadata"])
    api.update(
        id,
        "labels.k0",
        "labels.new",
        "metadata.a",
        "metadata.b",
        labels={"new": "v"},
        metadata=other,
    )
    found = api.full(id)
    assert len(found.labels) == 64
    assert json.dumps(MessageToDict(found.metadata)) == json.dumps(MessageToDict(other))
    many = [f"labels.x{n}" for n in range(201)]
    assert refused(lambda: api.update(id, *many)).fields == ["update_mask"]
