"""Uploads: bytes of clients become durable, named by their content. Every way in ends in the same record."""
