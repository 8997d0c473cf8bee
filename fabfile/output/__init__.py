"""What the caller gets: live progress, one outcome, errors with the next command."""
