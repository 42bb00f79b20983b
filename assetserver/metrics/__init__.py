"""What is counted: in memory that all processes of a server share, told as Prometheus reads it."""
