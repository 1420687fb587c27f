"""The commands of `sessiond`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version

from sessiond_server.cli import healthcheck, keys, migrate, serve

_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "serve": serve.run,
    "migrate": migrate.run,
    "keys": keys.run,
    "healthcheck": healthcheck.run,
}

_HELP = """\
usage: sessiond COMMAND [OPTIONS]

The session store for AI agents.

  serve        run the service (sessiond serve --help lists the settings)
  migrate      bring a database's schema up to date, and end
  keys         make, list and revoke API keys (sessiond keys --help)
  healthcheck  ask a running service whether it serves; exit code 0 if it does

  --version, --help
"""


def main() -> int:
    """The console script; the exit code."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in _COMMANDS:
        return _COMMANDS[arguments[0]](arguments[1:])
    if arguments[:1] == ["--version"]:
        print(f"sessiond {version('sessiond-server')}")
        return 0
    asked = arguments[:1] in (["--help"], ["-h"])
    print(_HELP, end="", file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2
