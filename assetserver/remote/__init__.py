"""Releases over HTTP: what a server takes from others, and the client that sends it. Never imports its neighbours."""
