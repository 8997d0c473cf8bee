"""What is to be done on a host, decided from what was read; pure, asks nobody."""
