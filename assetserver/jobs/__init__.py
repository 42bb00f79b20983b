"""Durable background work: what a job is, when it is tried again, and the worker that runs it. Knows no database."""
