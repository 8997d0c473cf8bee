"""The way to a host: the connection, and the runner of steps. Alone knows fabric and paramiko."""
