"""sessiond: the session store for AI agents."""
