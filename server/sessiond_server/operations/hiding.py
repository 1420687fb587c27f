"""What every change of what is hidden has in common: the derived rows follow the records."""

from __future__ import annotations

from sessiond_server.sessions.visibility import hidden_spans, segments, shown
from sessiond_server.store import contexts, messages
from sessiond_server.store.database import Connection
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey


async def derive(
    connection: Connection, key: SessionKey, head: Head, *, rewound_changed: bool
) -> None:
    """Bring spans, counters and open tool calls up to the records. Raises `PartialOverlap`."""
    compacted, rewound = hidden_spans(*await contexts.history(connection, key))
    await contexts.replace_spans(connection, key, compacted, rewound)
    pieces = segments(shown(compacted, rewound), head.first_seq, head.last_seq)
    count, tokens = await contexts.totals(connection, key, pieces, border=head.offloaded_before_seq)
    await contexts.set_counters(connection, key, count, tokens)
    if rewound_changed:
        await messages.derive_open_tool_calls(connection, key)
