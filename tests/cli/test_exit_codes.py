"""What goes wrong, and how that is said: exit codes, one clear line, no tracebacks."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from contextlib import suppress

import pytest
from typer.testing import CliRunner

from sessiond.cli.app import app
from tests.cli.command import COMMAND, Cli
from tests.support.processes import ServerProcess


def on_a_terminal(
    cli: Cli, *arguments: str, typed: bytes = b"", interrupt_at: bytes = b"", **more: str
) -> tuple[int, str]:
    """Runs a command on a pseudo-terminal of 80 columns; its exit code and all that it wrote.

    It is interrupted when it has written `interrupt_at`.
    """
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        (*COMMAND, *arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=cli.environment(TERM="xterm-256color", COLUMNS="80", **more),
    )
    os.close(theirs)
    os.write(mine, typed)
    written = b""
    while more_written := _read(mine):
        written += more_written
        if interrupt_at and interrupt_at in written:
            _interrupt(process)
    os.close(mine)
    return process.wait(20), written.decode()


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """As a person does who presses Ctrl-C until it helps: Python misses one right before it reads."""
    for _ in range(100):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
            return


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "--limit", "x"),
        ("ls", "--nonsense"),
        ("ls", "--label", "nonsense"),
        ("ls", "--idle", "soon"),
        ("nonsense",),
        ("show",),
        ("create", "--metadata", "[]"),
        ("compact", "s"),
        ("compact", "s", "1", "2"),
        ("compact", "s", "1", "2", "--summary", "x", "--summary-file", "y"),
        ("compact", "s", "--plan", "--max-context-tokens", "1", "--max-context-messages", "1"),
        ("append", "s", "x", "--role", "tool"),
        ("rewind", "s"),
        ("rewind", "s", "1", "--revert"),
        ("offload", "s"),
        ("offload", "s", "--all", "--keep", "1"),
        ("restore", "s"),
        ("restore", "s", "--all", "--from", "3"),
        ("consumer", "rm", "titles"),
        ("title", "s", "x", "--clear"),
        ("tail", "s", "-f", "-o", "json"),
        ("tail", "s", "-n", "-1"),
        ("tail", "s", "--drafts"),
        ("import", "-", "-"),
        ("import", "--format", "csv", "x"),
    ],
)
def test_wrong_usage_is_2(server: ServerProcess, arguments: tuple[str, ...]) -> None:
    done = CliRunner(env={"SESSIOND_TARGET": server.target}).invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Usage:" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "nowhere"),
        ("show", "x" * 300),
        ("create", "no\tcontrol characters"),
        ("create", "--title", "t", "--label", "=".join(("k" * 64, "v"))),
        ("append", "nowhere", "text"),
        ("append", "no\tgood", "--create", "text"),
        ("show", "nowhere", "--from", "99999999999999999999"),
        ("export", "nowhere"),
        ("ls", "--owner", "x" * 300),
    ],
)
def test_P14_a_refusal_is_1_with_a_clear_line(cli: Cli, arguments: tuple[str, ...]) -> None:
    error = cli.refused(*arguments)
    assert error.startswith("error: ")


def test_field_violations_are_listed_if_there_are_several(cli: Cli) -> None:
    (line,) = cli.refused("create", "no\tcontrol characters").splitlines()
    assert line.startswith("error: session.id: ")
    assert line.endswith("(INVALID_FIELD)")
    lines = cli.refused("create", "no\tcontrol characters", "--owner", "x" * 300).splitlines()
    assert lines[0].endswith("(and 1 more) (INVALID_FIELD)")
    assert [line.split(":")[0] for line in lines[1:]] == ["  session.id", "  session.owner"]


def test_a_server_that_is_down_is_named_and_how_to_start_one(cli: Cli) -> None:
    error = cli.refused("ls", "--target", "127.0.0.1:1")
    assert error.splitlines() == [
        "error: no server answers at 127.0.0.1:1 (UNAVAILABLE)",
        "  start one with `sessiond serve`, or name another with --target or SESSIOND_TARGET",
    ]


@pytest.mark.parametrize("target", ["127.0.0.1", "http://127.0.0.1:7443", "server:port", "unix:"])
def test_what_is_no_target_is_named_as_such(cli: Cli, target: str) -> None:
    assert "isn't HOST:PORT or unix:PATH" in " ".join(
        cli.refused("ls", "--target", target, code=2, COLUMNS="200").split()
    )


def test_the_target_may_stand_before_the_verb_or_after_it_or_in_the_environment(cli: Cli) -> None:
    cli.ok("--target", cli.target, "ls", SESSIOND_TARGET="127.0.0.1:1")
    cli.ok("ls", "--target", cli.target, SESSIOND_TARGET="127.0.0.1:1")
    error = cli.refused("--target", "127.0.0.1:1", "--timeout", "0.5", "ls")
    assert error.startswith("error: no answer from 127.0.0.1:1 in time (DEADLINE_EXCEEDED)\n")


def test_ctrl_c_is_130(cli: Cli) -> None:
    process = subprocess.Popen(
        (*COMMAND, "append", "s", "--create"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cli.environment(),
    )
    assert process.stdin is not None
    process.stdin.write(b"x" * 500_000)  # more than a pipe holds: the command reads
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (130, b"", b"")


def test_a_broken_pipe_is_quiet(cli: Cli) -> None:
    cli.ok("append", "s", "--create", given="x" * 1_000_000)
    for verb in ("show s --full", "show s -o json", "export s", "context s -o jsonl"):
        command = f"{' '.join(COMMAND)} {verb} | head -c 100"
        done = subprocess.run(
            command, shell=True, capture_output=True, env=cli.environment(), check=False
        )
        assert done.stderr == b""
        assert len(done.stdout) == 100


def test_colours_are_for_terminals_and_no_color_is_honoured(cli: Cli) -> None:
    cli.ok("append", "s", "--create", "Hello **there**")
    assert "\x1b" not in cli.ok("show", "s")
    assert "\x1b" not in cli.ok("ls")
    code, coloured = on_a_terminal(cli, "show", "s")
    assert code == 0
    assert "\x1b[" in coloured
    _, plain = on_a_terminal(cli, "show", "s", NO_COLOR="1")
    assert "\x1b[3" not in plain.replace("\x1b[3m", "")
    assert "Hello" in plain


def test_rm_asks_on_a_terminal(cli: Cli) -> None:
    cli.ok("append", "s", "--create", "x")
    code, text = on_a_terminal(cli, "rm", "s", typed=b"n\n")
    assert code == 0
    assert "Delete s with 1 message for good?" in text
    assert "kept s" in text
    code, text = on_a_terminal(cli, "rm", "s", typed=b"y\n")
    assert code == 0
    assert "deleted s" in text
    assert cli.json("ls") == []


def test_ctrl_c_at_a_question_is_130_and_deletes_nothing(cli: Cli) -> None:
    cli.ok("append", "s", "--create", "x")
    code, text = on_a_terminal(cli, "rm", "s", interrupt_at=b"for good?")
    assert code == 130
    assert "deleted" not in text
    assert [session["id"] for session in cli.json("ls")] == ["s"]


def test_version_and_help_need_no_server(cli: Cli) -> None:
    for argument, text in (("--version", "sessionctl "), ("--help", "Exit codes")):
        done = cli.process(argument, SESSIOND_TARGET="127.0.0.1:1")
        assert (done.returncode, done.stderr) == (0, "")
        assert text in done.stdout


def test_every_verb_has_help_with_an_example() -> None:
    names = [it.name for it in app.registered_commands]
    assert len(names) >= 22
    for name in names:
        assert name is not None
        done = CliRunner().invoke(app, [name, "--help"], prog_name="sessionctl")
        assert done.exit_code == 0
        assert f"$ sessionctl {name}" in done.output
