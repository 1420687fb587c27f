"""An agent without a network: it streams a turn with a tool call, and appends what it wrote.

    python examples/agent.py [SESSION]

Run `python examples/ui.py SESSION` beside it, or `sessionctl tail -f --drafts SESSION`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

import sessiond

PAUSE = 0.03


async def model(script: str) -> AsyncIterator[str]:
    """What a model would send, word by word."""
    for word in script.split(" "):
        await asyncio.sleep(PAUSE)
        yield word + " "


async def say(client: sessiond.AsyncClient, session_id: str, script: str) -> None:
    """An assistant's message, shown while it is written."""
    text = ""
    async with client.draft(session_id) as draft:
        async for piece in model(script):
            text += piece
            draft.text(piece)
        message = sessiond.message(
            "assistant", text.strip(), client_id=draft.client_id, finish_reason="stop"
        )
        await client.append(session_id, message)


async def call_tool(client: sessiond.AsyncClient, session_id: str) -> None:
    """A tool call, its arguments shown while they are written, and its result."""
    arguments = ""
    async with client.draft(session_id) as draft:
        draft.reasoning("I should look that up.")
        draft.tool_call(id="call-1", name="search_flights")
        async for piece in model('{"from": "HAM", "to": "LIS", "date": "2026-12-01"}'):
            arguments += piece
            draft.tool_call(piece)
        call = sessiond.tool_call("call-1", "search_flights", arguments.strip())
        message = sessiond.message(
            "assistant",
            sessiond.reasoning("I should look that up."),
            call,
            client_id=draft.client_id,
            finish_reason="tool_calls",
        )
        await client.append(session_id, message)
    result = sessiond.message(
        "tool",
        sessiond.tool_result(
            "call-1", '[{"flight": "TP 561", "departs": "06:10"}]', tool_name="search_flights"
        ),
    )
    await client.append(session_id, result)


async def turn(session_id: str) -> None:
    """A user's question, a tool call, an answer."""
    async with sessiond.AsyncClient() as client:
        await client.create_session(session_id, if_exists="return")
        question = sessiond.message("user", "Is there a flight to Lisbon?")
        await client.append(session_id, question)
        await call_tool(client, session_id)
        await say(
            client,
            session_id,
            "Yes. TAP flies to Lisbon at ten past six in the morning, and there are seats left.",
        )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Streams a turn with a tool call into a session.")
    options.add_argument(
        "session", nargs="?", default="flights", help="its id; flights if left out"
    )
    asyncio.run(turn(options.parse_args().session))
