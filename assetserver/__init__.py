"""An origin server for static files and uploaded assets; also a library: mount ``AssetFiles`` in any ASGI app.

The names are loaded when first used (PEP 562), so that ``assetserver version`` need not wait for Starlette.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .delivery.assetfiles import AssetFiles
    from .delivery.cacheheaders import CacheHeaders
    from .errors import AssetServerError, SettingsError
    from .semantics.caching import CachePolicy, CacheRule, CacheTable

__all__ = ["AssetFiles", "AssetServerError", "CacheHeaders", "CachePolicy", "CacheRule", "CacheTable", "SettingsError"]

_HOMES = {
    "AssetFiles": ".delivery.assetfiles",
    "CacheHeaders": ".delivery.cacheheaders",
    "AssetServerError": ".errors",
    "SettingsError": ".errors",
    "CachePolicy": ".semantics.caching",
    "CacheRule": ".semantics.caching",
    "CacheTable": ".semantics.caching",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
