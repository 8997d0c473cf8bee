"""A run on a host: connected, locked, read, changed, watched."""
