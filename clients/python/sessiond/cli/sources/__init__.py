"""Other systems' stores as records of sessions, for `sessionctl import`."""

from __future__ import annotations
