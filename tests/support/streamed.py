"""Frames of append streams."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond import v1


def frame(
    appends: Iterable[v1.AppendMessagesRequest], first_tag: int = 0
) -> v1.AppendStreamRequest:
    """A frame with these appends, tagged in their order."""
    return v1.AppendStreamRequest(
        appends=[
            v1.StreamedAppend(append=append, tag=tag)
            for tag, append in enumerate(appends, first_tag)
        ]
    )
