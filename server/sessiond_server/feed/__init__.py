"""Feeds: what happens in sessions, told to watchers in order and without a gap (P9)."""
