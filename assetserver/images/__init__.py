"""Pictures made smaller: what may be asked for, what is refused, and a studio that makes it in child processes.

Pillow is imported by those children alone: ``darkroom`` and what it imports. Everything else here is values, headers read as
bytes, and processes.
"""
