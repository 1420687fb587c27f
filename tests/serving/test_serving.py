"""`sessiond serve` as its operator sees it: the ready line, health, reflection, sockets, stopping."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from sessiond import Client, message
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]


def sessiond(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `sessiond` to its end."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
    return subprocess.run(
        [sys.executable, "-m", "sessiond_server", *arguments],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def health(target: str, service: str = "") -> int:
    with grpc.insecure_channel(target) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer: health_pb2.HealthCheckResponse = check(
            health_pb2.HealthCheckRequest(service=service), timeout=5
        )
        return answer.status


def test_health_names_every_service(server: ServerProcess) -> None:
    for service in ("", "SessionService", "MessageService", "ContextService"):
        name = f"sessiond.v1.{service}" if service else ""
        assert health(server.target, name) == health_pb2.HealthCheckResponse.SERVING


def test_healthcheck_says_whether_it_serves(server: ServerProcess) -> None:
    good = sessiond("healthcheck", SESSIOND_LISTEN=server.target)
    bad = sessiond("healthcheck", SESSIOND_LISTEN="127.0.0.1:1")
    assert (good.returncode, good.stdout.strip()) == (0, "SERVING")
    assert bad.returncode == 1
    assert "127.0.0.1:1 doesn't answer: UNAVAILABLE" in bad.stderr
    told = sessiond("healthcheck", "--help")
    assert told.stdout.startswith("usage: sessiond healthcheck [--listen")


def test_reflection_lists_the_services(server: ServerProcess) -> None:
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    with grpc.insecure_channel(server.target) as channel:
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {f"sessiond.v1.{n}Service" for n in ("Session", "Message", "Context")} <= services


def test_the_embedded_postgres_serves_on_several_addresses(
    place: Path, start_server: Start
) -> None:
    """Port 0 is a free one, a unix socket has the mode that was set, and both are named when ready."""
    path = place / "sock"
    server = start_server(
        "--data-dir",
        str(place / "data"),
        listen=f"127.0.0.1:0,unix:{path}",
        SESSIOND_UNIX_SOCKET_MODE="0666",
    )
    assert server.addresses[1] == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    for target in server.addresses:
        with Client(target) as client:
            assert client.create_session().next_seq == 1
    assert server.stop() == 0


def test_a_second_server_steals_neither_socket_nor_port(
    place: Path, dsn: str, start_server: Start
) -> None:
    path = place / "sock"
    first = start_server(SESSIOND_DSN=dsn, listen=f"127.0.0.1:0,unix:{path}")
    for address in first.addresses:
        second = sessiond("serve", SESSIOND_DSN=dsn, SESSIOND_LISTEN=address)
        assert second.returncode == 1
        assert f"can't listen on {address.removeprefix('unix:')}" in second.stderr
    with Client(first.addresses[1]) as client:
        client.create_session()


def test_a_socket_left_by_kill_9_is_taken_over(place: Path, dsn: str, start_server: Start) -> None:
    path = place / "sock"
    start_server(SESSIOND_DSN=dsn, listen=f"unix:{path}").kill()
    again = start_server(SESSIOND_DSN=dsn, listen=f"unix:{path}")
    with Client(again.target) as client:
        client.create_session()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (
            {"SESSIOND_DSN": "postgresql://x/y", "SESSIOND_DATA_DIR": "/nowhere"},
            "either dsn or data_dir",
        ),
        ({"SESSIOND_UNIX_SOCKET_MODE": "0600"}, "listen has no unix:/PATH"),
        ({"SESSIOND_UNIX_SOCKET_MODE": "rw", "SESSIOND_LISTEN": "unix:/x"}, "octal mode"),
        ({"SESSIOND_UNIX_SOCKET_MODE": "0999", "SESSIOND_LISTEN": "unix:/x"}, "octal mode"),
        ({"SESSIOND_LISTEN": "nonsense"}, "neither HOST:PORT nor unix:/PATH"),
        ({"SESSIOND_LISTEN": " , "}, "at least one address"),
        ({"SESSIOND_APPEND_LANES": "0"}, "append_lanes"),
        ({"SESSIOND_CONFIG_FILE": "/nowhere.toml"}, "there is no file /nowhere.toml"),
        ({"SESSIOND_DATA_DIR": "/proc/version"}, "/proc/version"),
        ({"SESSIOND_DSN": "postgresql://127.0.0.1:1/none"}, "the database can't be used"),
    ],
)
def test_bad_settings_are_refused_with_the_reason(environment: dict[str, str], reason: str) -> None:
    done = sessiond("serve", **environment)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sessiond: can't start: ")
    assert reason in last


def test_settings_come_from_flag_environment_and_file(
    place: Path, dsn: str, start_server: Start
) -> None:
    file = place / "sessiond.toml"
    file.write_text(f'dsn = "{dsn}"\nmax_spawn_depth = 1\nlisten = "127.0.0.1:1"\n')
    server = start_server(SESSIOND_CONFIG_FILE=str(file))
    with Client(server.target) as client:
        client.create_session("root")
        child = client.create_session("one", parent_id="root", parent_kind="subagent")
        assert child.spawn_depth == 1
        with pytest.raises(Exception, match="max_spawn_depth is 1"):
            client.create_session("two", parent_id="one", parent_kind="subagent")
    file.write_text("lissten = 1\n")
    done = sessiond("serve", SESSIOND_CONFIG_FILE=str(file))
    assert (done.returncode, "lissten" in done.stderr) == (1, True)


def test_stopping_ends_an_idle_append_stream_and_drains(dsn: str, start_server: Start) -> None:
    """Nobody has to wait for the grace to pass, and what was acknowledged is there."""
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_SHUTDOWN_GRACE="3600")
    with Client(server.target, timeout=10) as client:
        client.create_session("s")
        with client.append_stream() as stream:
            ack = stream.append("s", message("user", "hi")).result(10)
            assert ack.first_seq == 1
            assert server.stop() == 0
    again = start_server(SESSIOND_DSN=dsn)
    with Client(again.target) as client:
        assert client.get_session("s").message_count == 1


def test_a_signal_while_starting_is_obeyed(place: Path) -> None:
    """Ctrl-C during the first start leaves nothing running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sessiond_server", "serve", "--data-dir", str(place / "data")],
        env={**os.environ, "SESSIOND_LISTEN": "127.0.0.1:0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (place / "data").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode in (0, 1, 130), err
    assert "Traceback" not in err + out
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(place) not in running


def test_logs_are_json_and_hold_no_conversation(dsn: str, start_server: Start) -> None:
    server = start_server("--log-level", "debug", SESSIOND_DSN=dsn)
    with Client(server.target) as client, pytest.raises(Exception, match="no session"):
        client.append("missing", message("user", "a secret"))
    assert server.stop() == 0
    assert "a secret" not in "".join(server.log)
    assert all(json.loads(line)["event"] for line in server.log)


def test_migrate_needs_a_dsn_and_says_what_it_did(dsn: str) -> None:
    assert sessiond("migrate").returncode == 1
    done = sessiond("migrate", "--dsn", dsn)
    assert (done.returncode, done.stdout.strip()) == (0, "up to date")


@pytest.mark.parametrize(
    ("arguments", "code"), [((), 2), (("nonsense",), 2), (("--help",), 0), (("--version",), 0)]
)
def test_the_command_line_says_what_it_can_do(arguments: tuple[str, ...], code: int) -> None:
    done = sessiond(*arguments)
    assert done.returncode == code
    assert "sessiond" in done.stdout + done.stderr


def test_metrics_are_served_where_they_are_wanted(dsn: str, start_server: Start) -> None:
    """A watch is counted while it is there."""
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_METRICS_LISTEN="127.0.0.1:0")
    with Client(server.target) as client:
        client.create_session("s")
        assert server.figures()["sessiond_watches"] == 0
        assert server.figures()["sessiond_attachment_uploads"] == 0
        events = iter(client.watch("s"))
        assert next(events).kind == "caught_up"
        assert server.figures()["sessiond_watches"] == 1
    assert sessiond("serve", "--metrics-listen", "nowhere").returncode != 0
