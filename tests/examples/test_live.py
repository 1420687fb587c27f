"""The examples of a live conversation, run as their readers run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from sessiond import Client, v1
from tests.support.processes import ServerProcess

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(server: ServerProcess, name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "SESSIOND_TARGET": server.target},
        stdout=subprocess.PIPE,
        text=True,
    )


def _screen(state: Path) -> list[str]:
    lines: list[str] = json.loads(state.read_text())["screen"] if state.exists() else []
    return lines


def test_P9_a_ui_that_is_killed_goes_on_where_it_was(server: ServerProcess, tmp_path: Path) -> None:
    """It is killed while the answer is being written, and in the end has shown every message once."""
    state = tmp_path / "state.json"
    with Client(server.target) as client:
        client.create_session("live")
        ui = _run(server, "ui.py", "live", str(state))
        agent = _run(server, "agent.py", "live")
        with ui, agent:
            while len(_screen(state)) < 3:
                assert ui.poll() is None
                time.sleep(0.01)
            ui.kill()
            ui.wait()
            again = _run(server, "ui.py", "live", str(state))
            shown, _ = again.communicate(timeout=60)
            assert (again.returncode, agent.wait(60)) == (0, 0)
        messages = list(client.list_messages("live"))
    roles = [v1.Role.Name(message.role).removeprefix("ROLE_").lower() for message in messages]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert [text.split(":")[0] for text in _screen(state)] == [
        f"{message.seq} {role}" for message, role in zip(messages, roles, strict=True)
    ]
    assert "1 user" not in shown, "what was shown before isn't shown again"


def test_the_examples_say_how_they_are_run(server: ServerProcess) -> None:
    for name in ("ui.py", "agent.py"):
        with _run(server, name, "--help") as process:
            told = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        assert "usage: " in told
