"""Engines of the record interfaces that uploads and access declare, on SQLAlchemy Core. Imported only where records are touched."""
