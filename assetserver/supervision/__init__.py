"""Processes that serve: who starts and replaces them, and tells the service manager. Knows nothing of HTTP and jobs."""
