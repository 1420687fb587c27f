"""A user interface that follows a session and can be killed at any time: it goes on where it was.

    python examples/ui.py SESSION STATE.json

The state holds what is on the screen and the token of the last event on it, and is replaced as a whole:
what was shown isn't shown again, and nothing is left out.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import sessiond
from sessiond import v1


def load(place: Path) -> dict[str, Any]:
    """What was on the screen."""
    if place.exists():
        state: dict[str, Any] = json.loads(place.read_text())
        return state
    return {"screen": [], "tokens": {}}


def save(place: Path, state: dict[str, Any]) -> None:
    fresh = place.with_suffix(".new")
    fresh.write_text(json.dumps(state))
    os.replace(fresh, place)


def line(message: v1.Message) -> str:
    """A message as the screen shows it."""
    role = v1.Role.Name(message.role).removeprefix("ROLE_").lower()
    calls = "".join(f"{call.name}({call.arguments})" for call in sessiond.tool_calls_of(message))
    return f"{message.seq} {role}: {sessiond.text_of(message) or calls}"


def draft(changed: v1.DraftChanged) -> str:
    """A piece of a message that is being written."""
    pieces = (
        delta.text or delta.reasoning or delta.tool_call.arguments for delta in changed.deltas
    )
    return "".join(pieces)


def follow(session_id: str, place: Path) -> None:
    """Show what happens, until the answer is there."""
    state = load(place)
    with sessiond.Client() as client:
        for event in client.watch(session_id, resume=state["tokens"], drafts=True):
            if event.kind == "draft_changed":
                print(draft(event.value), end="", flush=True)
            elif event.kind == "message_appended":
                state["screen"].append(line(event.value))
                print(f"\r{state['screen'][-1]}", flush=True)
            if event.token:
                state["tokens"][event.session_id] = event.token
                save(place, state)
            if event.kind == "message_appended" and event.value.finish_reason == "stop":
                return


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Follows a session until its answer is there.")
    options.add_argument("session", help="its id")
    options.add_argument("state", type=Path, help="the file that holds what was shown")
    given = options.parse_args()
    follow(given.session, given.state)
