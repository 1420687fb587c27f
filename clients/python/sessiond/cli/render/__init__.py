"""How the CLI shows things: pure functions from messages and sessions to lines of rich text."""
