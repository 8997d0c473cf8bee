"""What a Django repository says of itself, from its files alone; nothing of it is imported or run."""
