"""Every call of the API by service: how its arguments become a request, and its answer a result."""
