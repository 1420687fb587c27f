"""Verbs on messages: append, show, context."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, islice

import typer
from rich.text import Text

from sessiond import Client, message, tool_result, v1
from sessiond.cli import arguments, options
from sessiond.cli.given_messages import messages_from
from sessiond.cli.openai_files import FormatError
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.conversation import Painter, Style
from sessiond.cli.render.pairs import pair
from sessiond.cli.render.prose import count, span
from sessiond.cli.render.sessions import header
from sessiond.cli.terminal import Failure, Run, note_uncounted
from sessiond.cli.transcript import Row, Window, WindowOptions, hidden_ranges, read_window
from sessiond.cli.verbs import Output, SessionName, verb

app = typer.Typer()

_MAX_PAGE = 1000


@verb(
    app,
    "append",
    "append trip 'And how is the weather there?'",
    "append trip --role tool --call call_1 --name weather < result.json",
    "append trip < messages.jsonl",
)
def append(
    run: Run,
    session: SessionName,
    text: options.Text = None,
    role: options.WithRole = None,
    name: options.Speaker = "",
    call: options.AnsweredCall = "",
    client_id: options.ClientId = "",
    expect: options.Expect = 0,
    expect_revision: options.ExpectRevision = 0,
    create: options.CreateSession = False,
    output: Output = Format.TABLE,
) -> None:
    """Appends messages, all or none, and prints their seqs.

    Stdin may hold plain text, an OpenAI-style JSON object or array, or JSON lines.
    """
    if role is options.Role.TOOL and not call:
        raise typer.BadParameter("--role tool needs --call, the id of the call it answers")
    messages = _given(text, role or options.Role.USER, name, call, plain_text=role is not None)
    if client_id:
        if len(messages) != 1:
            raise typer.BadParameter("--client-id is for a single message")
        messages[0].client_id = client_id
    session_id = session if create else run.find(session).id
    answer = run.client.append(
        session_id,
        messages,
        expected_next_seq=expect,
        expected_revision=expect_revision,
        create_session=v1.Session(id=session_id, source="cli") if create else None,
    )
    if output is not Format.TABLE:
        write(plain(answer), output)
        return
    print(span(answer.first_seq, answer.last_seq), end="")
    print(" (stored before)" if answer.replayed else "")


def _given(
    text: str | None, role: options.Role, name: str, call: str, plain_text: bool
) -> list[v1.Message]:
    if text in (None, "-"):
        text = arguments.stdin_text("the message")
        try:
            parsed = None if plain_text else messages_from(text)
        except FormatError as error:
            raise Failure(
                f"stdin looks like JSON but isn't a message: {error}; "
                "give --role user to append it as plain text"
            ) from error
        if parsed is not None:
            return parsed
        text = text.removesuffix("\n")
    # A tool may well have nothing to say, and its call is open until it does.
    if not text.strip() and role is not options.Role.TOOL:
        raise Failure("nothing to append")
    if role is options.Role.TOOL:
        return [message("tool", tool_result(call, text, tool_name=name))]
    return [message(v1.Role.Value(f"ROLE_{role.name}"), text, name=name)]


@verb(
    app,
    "show",
    "show trip",
    "show 'Trip to Lisbon' --from 120 --limit 20 --full",
    "show trip --from 120 --to 140",
    "show 'Trip to Lisbon #3' --continuations --limit 0 -o jsonl",
)
def show(
    run: Run,
    session: SessionName,
    limit: options.Limit = 50,
    from_seq: options.FromSeq = 0,
    to_seq: options.ToSeq = 0,
    full: options.Full = False,
    expand: options.Expand = False,
    every: options.EveryMessage = False,
    continuations: options.Continuations = False,
    output: Output = Format.TABLE,
) -> None:
    """Shows a conversation: the newest messages, those from a seq on, or the last ones up to a seq.

    Tool results stand beneath their calls, compacted ranges are folded under their summary, what is
    rewound or not meant for people is hidden. As JSON it is {"session", "messages"}: the transcript,
    or all with --all.

    With --continuations a title means the newest of its series: `x` is `x #3` if that is the last one.
    """
    found = run.find(session, newest=continuations, full=output is not Format.TABLE)
    wanted = WindowOptions(from_seq, limit, expand, every, to_seq)
    if output is not Format.TABLE:
        _write_messages(run.client, found, wanted, output, continuations)
        return
    if continuations:
        _show_continuations(run, found, wanted, full)
        return
    window = _window(run.client, found, wanted)
    style = Style(full, _open_calls(run.client, found))
    console = run.console
    for line in header(found):
        console.print(line, soft_wrap=True)
    console.print()
    if window.earlier and not from_seq:
        _hint(run, "⋮ earlier messages not shown: --limit 0 for all, or --from SEQ")
    painter = Painter(console, found.next_seq, style)
    _paint(run, painter, window.rows, style)
    if window.later:
        _hint(run, f"⋮ more follows: --from {window.span[1] + 1}")
    if not window.rows:
        _hint(run, "no messages")


@verb(app, "context", "context trip --max-context-tokens 8000", "context trip --as-of 40 -o json")
def context(
    run: Run,
    session: SessionName,
    as_of: options.AsOf = 0,
    max_context_tokens: options.MaxTokens = 0,
    max_context_messages: options.MaxMessages = 0,
    full: options.Full = False,
    output: Output = Format.TABLE,
) -> None:
    """Shows what the model sees: summaries stand where the ranges stood that they replace.

    As JSON it is {"totals", "messages"}, as JSON lines the messages alone.
    """
    found = run.find(session)
    seen = run.client.get_context(
        found.id,
        as_of_seq=as_of,
        max_context_tokens=max_context_tokens,
        max_context_messages=max_context_messages,
    )
    if max_context_tokens:
        note_uncounted(seen.messages)
    if output is Format.JSONL:
        write_all(map(plain, seen.messages), output)
        return
    if output is Format.JSON:
        messages = list(map(plain, seen.messages))
        write({"totals": plain(seen.totals), "messages": messages}, output)
        return
    totals = seen.totals
    unknown = totals.message_count and not totals.token_count
    tokens = "tokens unknown" if unknown else f"{totals.token_count:,} tokens"
    line = f"{count(totals.message_count, 'message')}, {tokens}"
    if totals.omitted_message_count:
        line += f", {totals.omitted_message_count:,} left out"
    _hint(run, f"context of {found.id} as of seq {totals.as_of_seq}: {line}")
    style = Style(full, frozenset() if as_of else _open_calls(run.client, found))
    _paint(run, Painter(run.console, found.next_seq, style), seen.messages, style)


def _paint(run: Run, painter: Painter, rows: Iterable[Row], style: Style) -> None:
    for line in painter.paint(pair(rows, style.open_calls)):
        run.console.print(line, soft_wrap=True)


def _hint(run: Run, text: str) -> None:
    run.console.print(Text(text, style="dim"), soft_wrap=True)
    run.console.print()


def _window(client: Client, session: v1.Session, options: WindowOptions) -> Window:
    compactions = client.list_compactions(session.id, page_size=_MAX_PAGE)
    rewinds = client.list_rewinds(session.id, page_size=_MAX_PAGE)
    hidden = hidden_ranges(compactions, rewinds, options.show_all)

    def read(start: int, descending: bool, count: int) -> Iterable[v1.Message]:
        return client.list_messages(
            session.id,
            view="all",
            order="descending" if descending else "ascending",
            from_seq=start,
            page_size=min(count, _MAX_PAGE),
        )

    return read_window(read, hidden, session.next_seq - 1, options)


def _open_calls(client: Client, session: v1.Session) -> frozenset[tuple[int, str]]:
    if not session.open_tool_call_count:
        return frozenset()
    calls = client.list_open_tool_calls(session.id, page_size=_MAX_PAGE)
    return frozenset((call.seq, call.tool_call.id) for call in calls)


def _messages(
    client: Client, session: v1.Session, options: WindowOptions, continuations: bool
) -> Iterable[v1.Message]:
    newest = bool(options.limit) and not options.from_seq
    start, end = (options.to_seq, 0) if newest else (options.from_seq, options.to_seq)
    found: Iterable[v1.Message] = client.list_messages(
        session.id,
        view="all" if options.show_all else "transcript",
        order="descending" if newest else "ascending",
        from_seq=start or None,
        to_seq=end or None,
        continuations=continuations,
        page_size=min(options.limit or _MAX_PAGE, _MAX_PAGE),
    )
    if options.limit:
        found = islice(found, options.limit)
    return reversed(list(found)) if newest else found


def _show_continuations(run: Run, session: v1.Session, options: WindowOptions, full: bool) -> None:
    """The transcript over a whole conversation, with a header where another session begins."""
    messages = _messages(run.client, session, options, continuations=True)
    for id, its in groupby(messages, key=lambda it: it.session_id):
        part = session if id == session.id else run.client.get_session(id)
        for line in header(part):
            run.console.print(line, soft_wrap=True)
        run.console.print()
        style = Style(full, _open_calls(run.client, part))
        _paint(run, Painter(run.console, part.next_seq, style), list(its), style)
        run.console.print()


def _write_messages(
    client: Client, session: v1.Session, options: WindowOptions, output: Format, continuations: bool
) -> None:
    messages = map(plain, _messages(client, session, options, continuations))
    if output is Format.JSONL:
        write_all(messages, output)
    else:
        write({"session": plain(session), "messages": list(messages)}, output)
