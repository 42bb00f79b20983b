"""Webhooks: events told to one address that the operator names, signed, as durable jobs."""
