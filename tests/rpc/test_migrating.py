"""docs/migrating: every row of what the four systems do has an RPC, a command and a test that holds it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import typer.main

import sessiond
from sessiond.cli.app import app
from sessiond_server.rpc.server import SERVICES

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "migrating" / "README.md"

ROWS = {
    "A": """create a session for a profile and a user; get a session with two views of one load; delta save;
        global sequence per session; hot and archive tables; scroll-up paging over the archive; list sessions;
        search sessions; session summary; pin, name; context for debugging; planning logs; images; files of
        a session; published inline content; name from the first messages; stale sessions; recalls; access""",
    "B": """create, ensure; session facts; end, reopen; resume by title or id; titles; title lineage;
        compression splits; token and cost counters; append; conversation format; rich list; full-text
        search; counts; export; clear, delete, prune; truncation guard; one writer, many readers""",
    "C": """sessions; lifecycle of sub-agents; children; archive a session; atomic seq; message log; active
        messages, all messages, one message; compaction; session state; usage per round""",
    "D": """a lock so that two compactors don't collide; rewind to a message and undo it; messages around
        a hit; import; search that works for Chinese, Japanese and Korean; dedupe by the platform's message
        id; hand-off of a session between processes; streams that survive a reconnect; token-by-token
        output seen live by a second client; no orphaned tool results after trimming; constant-time
        loads of long sessions; usage per model""",
}
"""The rows by system: A Navi, B Hermes, C power-loop, D what their users asked for next."""


def rows_of(system: str) -> list[str]:
    return [" ".join(row.split()) for row in ROWS[system].split(";")]


def table(file: Path) -> dict[tuple[str, str], list[str]]:
    """The cells behind each row's name, by the letter of its section and its name."""
    found: dict[tuple[str, str], list[str]] = {}
    for section in re.split(r"^## ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        for line in section.splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if line.startswith("| ") and cells[0] not in ("what it does", "row"):
                found[section[0], cells[0]] = cells[1:]
    return found


@cache
def methods() -> set[str]:
    return {method.name for service in SERVICES for method in service.methods}


@cache
def verbs() -> set[str]:
    """The verbs of sessionctl, with those within a group behind its name."""
    command = typer.main.get_command(app)

    def names(group: object, path: str) -> set[str]:
        inner = getattr(group, "commands", None)
        if inner is None:
            return {path}
        return {name for key, it in inner.items() for name in names(it, f"{path} {key}".strip())}

    return names(command, "")


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Assign)
    found = {node.name for node in ast.walk(tree) if isinstance(node, kinds[:2])}
    assigned = [node.targets for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    return found | {it.id for targets in assigned for it in targets if isinstance(it, ast.Name)}


@pytest.mark.parametrize(
    ("system", "row"), [(system, row) for system in ROWS for row in rows_of(system)]
)
def test_every_row_has_an_rpc_a_command_and_a_test(system: str, row: str) -> None:
    rpcs, commands, held_by = table(TABLE)[system, row]
    named = re.findall(r"`([A-Z]\w+)`", re.sub(r"\(.*?\)", "", rpcs))
    assert named, "an RPC"
    assert set(named) <= methods(), rpcs
    for command in re.findall(r"`([^`]+)`", commands):
        verb = command.removeprefix("sessionctl ")
        in_library = verb.startswith("sessiond.") and hasattr(sessiond, verb.split(".")[1])
        assert verb in verbs() or in_library, command
    assert "`" in commands or commands == "–"
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", held_by)
    assert tests, "a test"
    for file, name in tests:
        assert name.startswith("test_"), name
        assert name in names_in(file), f"{file} has no {name}"


def test_the_table_has_no_other_rows() -> None:
    assert list(table(TABLE)) == [(system, row) for system in ROWS for row in rows_of(system)]
