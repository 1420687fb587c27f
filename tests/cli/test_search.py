"""`sessionctl search` and `reindex`."""

from __future__ import annotations

import time

from sessiond import Client
from tests.cli.command import Cli


def _indexed(client: Client, id: str) -> None:
    end = client.get_session(id).next_seq - 1
    until = time.monotonic() + 60
    while client.search_messages_page("a", session_id=id).indexed_through < end:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_search_marks_what_it_found(cli: Cli, client: Client) -> None:
    cli.ok("create", "s1", "--title", "Trip", "--source", "web")
    for text in ("before", "Where is  my\nrefund for HAT-123?", "after\tall"):
        cli.ok("append", "s1", text)
    _indexed(client, "s1")
    lines = cli.ok("search", "hat-123 refund", "--context", "1").splitlines()
    assert lines[0].split()[:6] == ["Trip", "s1", "#2", "·", "user", "·"]
    assert lines[1:] == [
        "    user: before",
        "    Where is my refund for HAT-123?",
        "    user: after all",
    ]
    colored = cli.ok("search", "refund", FORCE_COLOR="1")
    assert "\x1b[1;7mrefund\x1b[0m" in colored
    (hit,) = cli.json("search", "refund", "--session", "Trip", "--role", "user")
    assert (hit["session_id"], hit["seq"], hit["field"]) == ("s1", 2, "text")
    assert hit["snippet"]["runs"] == [
        {"text": "Where is  my\n", "match": False},
        {"text": "refund", "match": True},
        {"text": " for HAT-123?", "match": False},
    ]
    assert cli.json("search", "refund", "--exclude-source", "web") == []
    assert cli.json("search", "refund", "--within", "1h", "--newest")[0]["seq"] == 2
    assert "nothing found" in cli("search", "teapot").stderr
    assert "query" in cli.refused("search", "--", "-teapot")


def test_reindex_says_how_many(cli: Cli, client: Client) -> None:
    for id in ("s1", "s2"):
        cli.ok("create", id)
        cli.ok("append", id, "teapot")
    assert cli.ok("reindex", "s1") == "1 session will be indexed anew\n"
    assert cli.json("reindex", "--all") == {"session_count": 2}
    for id in ("s1", "s2"):
        _indexed(client, id)
    assert len(cli.json("search", "teapot")) == 2
    cli.refused("reindex", code=2)
