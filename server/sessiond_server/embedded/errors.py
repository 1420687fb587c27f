"""The one error of the embedded Postgres."""

from __future__ import annotations


class EmbeddedPostgresError(Exception):
    """The embedded Postgres can't run. The message is the reason, written for a person."""
