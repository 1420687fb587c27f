"""GetServerInfo says how the server is set, to everybody."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest

from sessiond import v1
from sessiond_server.config import Settings
from sessiond_server.rpc.server_service import LIMITS
from tests.rpc.api import Api, refused
from tests.support.processes import ServerProcess

REASONS = Path(__file__).parents[2] / "protos" / "sessiond" / "v1" / "error_reason.proto"


def test_a_caller_without_a_key_learns_how_the_server_is_set(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    server = start_server(
        SESSIOND_DSN=dsn,
        SESSIOND_AUTH="keys",
        SESSIOND_SEARCH="false",
        SESSIOND_ATTACHMENT_BYTES="12345",
        SESSIOND_LOCK_TIMEOUT="2.5",
    )
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        found = api.server.GetServerInfo(v1.GetServerInfoRequest())
        assert refused(lambda: api.get("s")).reason == "CREDENTIALS_INVALID"
    assert found.version == version("sessiond-server")
    assert dict(found.features) == {"auth": True, "search": False, "attachment_executables": False}
    given = {"attachment_bytes": 12345.0, "lock_timeout": 2.5}
    defaults = {name: float(Settings.model_fields[name].default) for name in LIMITS}
    assert dict(found.limits) == defaults | given


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_a_setting(name: str) -> None:
    assert isinstance(Settings.model_fields[name].default, int | float)


def test_every_setting_for_which_a_call_is_refused_is_told() -> None:
    """Those that the reasons name."""
    comments = re.sub(r"\s*\n\s*// ", " ", REASONS.read_text(encoding="utf-8"))
    named = {
        name
        for group in re.findall(r"\(settings? ([^)]*)\)", comments)
        for name in re.findall(r"`(\w+)`", group)
    }
    assert {"lock_timeout", "feed_watches_per_connection", "imports"} <= named
    assert named - set(LIMITS) == {
        "auth",
        "search",
        "attachment_executables",
        "attachment_refused_extensions",
    }
