"""Purging: caches in front are told which URLs another release has changed, as durable jobs."""
