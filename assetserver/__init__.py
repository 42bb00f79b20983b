"""An origin server for static files and uploaded assets; also a library: mount ``AssetFiles`` in any ASGI app."""

from .delivery.assetfiles import AssetFiles
from .delivery.cacheheaders import CacheHeaders
from .errors import AssetServerError, SettingsError
from .semantics.caching import CachePolicy, CacheRule, CacheTable

__all__ = ["AssetFiles", "AssetServerError", "CacheHeaders", "CachePolicy", "CacheRule", "CacheTable", "SettingsError"]
