"""How a verb is made: a function that gets a Run, registered with the options that all have."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer

from sessiond._channel import DEFAULT_TARGET, default_target
from sessiond.cli.output import Format
from sessiond.cli.terminal import Run, wall

DEFAULT_TIMEOUT = 30.0
_TARGET = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|vsock|xds|passthrough):.+|[^/]+:\d{1,5}")

Target = Annotated[
    str | None,
    typer.Option(
        help=f"Where the server is: host:port or unix:PATH. Default: SESSIOND_TARGET, else"
        f" {DEFAULT_TARGET}.",
        show_default=False,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        help=f"Seconds that a call may take. Default: {DEFAULT_TIMEOUT:g}.",
        show_default=False,
        min=0.001,
    ),
]
Output = Annotated[
    Format,
    typer.Option("--output", "-o", help="How to write the result; see `sessionctl --help`."),
]
SessionName = Annotated[
    str, typer.Argument(help="A session's id, the unique beginning of one, or its exact title.")
]


def verb(
    app: typer.Typer, name: str, *examples: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a verb; its help ends with the examples."""
    title = "Example" if len(examples) == 1 else "Examples"
    epilog = "\n\n".join([f"{title}:", *(f"  $ sessionctl {example}" for example in examples)])

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def command(ctx: typer.Context, **arguments: Any) -> None:
            target, timeout = arguments.pop("target"), arguments.pop("timeout")
            shared = ctx.obj or {}
            run = Run(
                _target(target or shared.get("target") or default_target()),
                timeout or shared.get("timeout") or DEFAULT_TIMEOUT,
            )
            with wall(run):
                function(run, **arguments)

        command.__doc__ = unwrapped(inspect.getdoc(function) or "")
        command.__signature__ = _signature(function)  # type: ignore[attr-defined]
        command.__annotations__ = {
            it.name: it.annotation for it in _signature(function).parameters.values()
        }
        app.command(name, epilog=epilog, no_args_is_help=False)(command)
        return function

    return register


def _target(text: str) -> str:
    """A target that gRPC may know. A usage error for others, to which no server would answer."""
    if not _TARGET.fullmatch(text):
        raise typer.BadParameter(f"the target {text!r} isn't HOST:PORT or unix:PATH")
    return text


def unwrapped(text: str) -> str:
    """The text with each paragraph on one line; the terminal wraps it."""
    return "\n\n".join(" ".join(it.split("\n")) for it in text.strip().split("\n\n"))


def _signature(function: Callable[..., None]) -> inspect.Signature:
    """The function's signature with a context for its Run, and the options of all verbs."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("target", keyword, default=None, annotation=Target),
        inspect.Parameter("timeout", keyword, default=None, annotation=Timeout),
    ]
    context = inspect.Parameter("ctx", keyword, annotation=typer.Context)
    return inspect.Signature([context, *(it.replace(kind=keyword) for it in own), *shared])
