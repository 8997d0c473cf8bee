"""Steps: a title and a few lines of bash each, made by pure functions; nothing here talks to a host."""
