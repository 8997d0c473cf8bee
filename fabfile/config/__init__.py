"""What a person sets: settings of a host, where they come from, and the places they name."""
