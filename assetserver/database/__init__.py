"""Engines of the record interfaces that others declare, on SQLAlchemy Core; imported only where records are touched."""
