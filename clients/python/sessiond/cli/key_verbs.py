"""Verbs on API keys: keys create, ls, show, revoke."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from sessiond import v1
from sessiond.cli import arguments
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.api_keys import keys_lines
from sessiond.cli.terminal import Run, note
from sessiond.cli.verbs import Output, unwrapped, verb

app = typer.Typer(
    no_args_is_help=True,
    help="API keys of your tenant; they need a key with the permission admin.",
    epilog=unwrapped("Example: $ sessionctl keys create 'web app' --expires-in 90d"),
    rich_markup_mode="rich",
)


class Allowed(StrEnum):
    """What a key allows."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, from `keys ls`.")]
Name = Annotated[str, typer.Argument(help="What the key is for.")]
Permissions = Annotated[
    list[Allowed] | None,
    typer.Option(
        "--permission",
        "-p",
        help="What it allows; may be given several times. Default: read and write.",
        show_default=False,
    ),
]
Owner = Annotated[str, typer.Option(help="Only this owner's sessions; left out, everybody's.")]
ExpiresIn = Annotated[str, typer.Option(help="How long it is good; left out, for ever.")]
RequestId = Annotated[str, typer.Option(help="So that the same call again makes no second key.")]
Missing = Annotated[bool, typer.Option("--allow-missing", help="Do nothing if there is none.")]
Own = Annotated[bool, typer.Option("--allow-self", help="Even if it is the key of this call.")]


@verb(
    app,
    "create",
    "keys create 'web app' --expires-in 90d",
    'keys create "ada\'s browser" --owner ada --permission read',
)
def create(
    run: Run,
    name: Name,
    permission: Permissions = None,
    owner: Owner = "",
    expires_in: ExpiresIn = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Makes a key and prints it, this one time. It allows at most what your own key does."""
    span = arguments.optional_duration(expires_in)
    try:
        ends = None if span is None else datetime.now(UTC) + span
    except OverflowError:
        raise typer.BadParameter(f"{expires_in!r} is too long") from None
    made = run.client.create_api_key(
        name,
        [it.value for it in permission or (Allowed.READ, Allowed.WRITE)],
        owner=owner,
        expire_time=ends,
        request_id=request_id,
    )
    if output is not Format.TABLE:
        return write(plain(made), output)
    if made.replayed:
        note(
            f"{made.api_key.id} was made before, and can't be shown again: revoke it if it is lost"
        )
        return
    print(made.secret)
    note("this is the only time that the key is shown")


@verb(app, "ls", "keys ls", "keys ls -o jsonl | jq -r .id")
def ls(run: Run, output: Output = Format.TABLE) -> None:
    """Lists the keys, the newest first, without their secrets."""
    found = run.client.list_api_keys(page_size=1000)
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    _show(run, list(found))


@verb(app, "show", "keys show 1f0c9d2e8b7a6543")
def show(run: Run, key_id: KeyId, output: Output = Format.TABLE) -> None:
    """Shows one key, without its secret."""
    found = run.client.get_api_key(key_id)
    if output is not Format.TABLE:
        return write(plain(found), output)
    _show(run, [found])


@verb(app, "revoke", "keys revoke 1f0c9d2e8b7a6543")
def revoke(
    run: Run, key_id: KeyId, allow_missing: Missing = False, allow_self: Own = False
) -> None:
    """Ends a key for good; servers refuse it within 10 seconds."""
    if not run.client.revoke_api_key(key_id, allow_missing=allow_missing, allow_self=allow_self):
        note("no such key")


def _show(run: Run, keys: list[v1.ApiKey]) -> None:
    if not keys:
        return note("no keys")
    for line in keys_lines(keys, run.console.width):
        run.console.print(line, soft_wrap=True)
