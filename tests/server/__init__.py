"""The whole server, as a client, an operator or a kernel sees it."""
