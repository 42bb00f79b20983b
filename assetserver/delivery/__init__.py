"""The GET side: folders become assets, plans become bytes on a connection."""
