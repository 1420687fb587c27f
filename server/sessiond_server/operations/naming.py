"""Giving sessions titles, and the next title of a series."""

from __future__ import annotations

from sessiond_server.errors import TitleTaken
from sessiond_server.sessions import titles
from sessiond_server.store import sessions
from sessiond_server.store.database import Connection
from sessiond_server.store.sessions import SessionInsert, SessionRow

ALLOW, REFUSE, NUMBER = 1, 2, 3
"""What becomes of a title that another session has: values of `sessiond.v1.TitleConflict`."""


async def chosen(
    connection: Connection, row: SessionRow | SessionInsert, title: str, conflict: int
) -> str:
    """The title that a session gets, in the transaction that gives it. Raises `TitleTaken`."""
    if not title or conflict == ALLOW:
        return title
    await sessions.lock_titles(connection, row, title)
    holder = await sessions.title_holder(connection, row, title)
    if holder is None:
        return title
    if conflict == REFUSE:
        raise TitleTaken(title, holder)
    if titles.follows(row.title, title) and not await sessions.title_holder(
        connection, row, row.title
    ):
        return row.title
    while holder is not None:
        title = await following(connection, row.tenant, title, row.owner, without=row.session_id)
        holder = await sessions.title_holder(connection, row, title)
    return title


async def following(
    connection: Connection, tenant: str, title: str, owner: str, *, without: str = ""
) -> str:
    """The title after the newest of a series, but for that of a session. A long name is shortened, and its
    series is then that of the shortened one."""
    name, _ = titles.series(title)
    number = await sessions.newest_number(connection, tenant, owner, name, without=without)
    while True:
        proposed = titles.numbered(name, number + 1)
        shortened, _ = titles.series(proposed)
        if shortened == name:
            return proposed
        newest = await sessions.newest_number(connection, tenant, owner, shortened, without=without)
        if newest <= number:
            return proposed
        number = newest
