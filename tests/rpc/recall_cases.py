"""The cases of recalls, and of claims that were lost."""

from __future__ import annotations

from sessiond import v1
from tests.rpc.api import Api, new, refused
from tests.rpc.cases import Expected, case


@case("RECALL_NOT_FOUND")
def reading_an_unknown_recall(api: Api) -> Expected:
    recall = v1.Recall(id="none", session_id=api.talk())
    return refused(lambda: api.get_recall(recall)), {"recall_id": "none"}


@case("RECALL_NOT_FOUND")
def skipping_an_unknown_recall(api: Api) -> Expected:
    recall = v1.Recall(id="none", session_id=api.talk())
    return refused(lambda: api.skip(recall)), {"recall_id": "none"}


@case("SESSION_NOT_FOUND")
def cancelling_a_recall_of_an_unknown_session(api: Api) -> Expected:
    recall = v1.Recall(id="none", session_id="nobody")
    return refused(lambda: api.cancel(recall)), {"session_id": "nobody"}


@case("SESSION_NOT_FOUND")
def listing_the_recalls_of_an_unknown_session(api: Api) -> Expected:
    request = v1.ListRecallsRequest(session_id="nobody")
    return refused(lambda: api.recalls.ListRecalls(request)), {"session_id": "nobody"}


@case("RECALL_EXISTS")
def a_recall_with_the_id_of_another(api: Api) -> Expected:
    id = api.talk()
    api.recall(id, "one", id="r", delay=60)
    return refused(lambda: api.recall(id, "other", id="r", delay=60)), {"recall_id": "r"}


@case("TOO_MANY_RECALLS")
def more_pending_recalls_than_may_be(api: Api) -> Expected:
    id = api.talk()
    for _ in range(1000):
        api.recall(id, "", delay=3600)
    return refused(lambda: api.recall(id)), {"session_id": id, "limit": 1000}


@case("TOO_MANY_CONSUMERS")
def more_consumers_in_a_session_than_may_be(api: Api) -> Expected:
    id = api.talk()

    def set_of(consumer: str) -> None:
        request = v1.SetWatermarkRequest(session_id=id, consumer=consumer, seq=1)
        api.watermarks.SetWatermark(request)

    for n in range(100):
        set_of(f"c{n}")
    return refused(lambda: set_of("one-more")), {"session_id": id, "limit": 100}


@case("TOO_MANY_CONSUMERS")
def more_consumers_of_an_owner_than_may_be(api: Api) -> Expected:
    owner = new("owner")

    def claim_of(consumer: str) -> None:
        request = v1.ClaimStaleSessionsRequest(consumer=consumer, owner=owner)
        api.watermarks.ClaimStaleSessions(request)

    for n in range(100):
        claim_of(f"c{n}")
    return refused(lambda: claim_of("one-more")), {"limit": 100}


@case("CLAIM_LOST")
def setting_a_watermark_with_the_token_of_nobody(api: Api) -> Expected:
    id = api.talk(1)
    request = v1.SetWatermarkRequest(session_id=id, consumer="c", seq=1, claim_token="nobody's")
    return refused(lambda: api.watermarks.SetWatermark(request)), {"session_id": id}


@case("SEQ_OUT_OF_RANGE")
def setting_a_watermark_beyond_the_end(api: Api) -> Expected:
    id = api.talk(1)
    request = v1.SetWatermarkRequest(session_id=id, consumer="c", seq=2)
    found = refused(lambda: api.watermarks.SetWatermark(request))
    return found, {"field": "seq", "seq": 2, "first_seq": 1, "next_seq": 2}


@case("CLAIM_LOST")
def completing_a_recall_that_was_cancelled(api: Api) -> Expected:
    recall = api.recall(api.talk(), type=(kind := new("type")))
    (claim,) = api.claim(kind)
    api.cancel(recall)
    found = refused(lambda: api.complete(claim))
    return found, {"session_id": recall.session_id, "recall_id": recall.id}


@case("CLAIM_LOST")
def completing_with_the_token_of_nobody(api: Api) -> Expected:
    recall = api.recall(api.talk(), delay=60)
    claim = v1.ClaimedRecall(recall=recall, claim_token="nobody's")
    found = refused(lambda: api.complete(claim))
    return found, {"session_id": recall.session_id, "recall_id": recall.id}
