"""Work that no visitor waits for: jobs of the queue, and of a timer; each leaves a row that tells who did it."""
