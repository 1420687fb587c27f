"""The Postgres that the server brings along when it is given no DSN."""

from __future__ import annotations

from .directory import default_data_dir
from .errors import EmbeddedPostgresError
from .supervisor import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "default_data_dir"]
