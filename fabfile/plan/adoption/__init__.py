"""Whether a server that was deployed otherwise can be taken over, and what becomes of what it has. Pure."""
