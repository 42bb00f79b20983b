"""Under which URLs a file is kept by caches in front. Pure.

Only canonical spellings are kept: others are answered with a redirect, which depends on no content.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from assetserver.semantics.targets import format_target

INDEX = "index.html"
PAGE_SUFFIX = ".html"


@dataclass(frozen=True, slots=True)
class Place:
    """Where visitors find a site: ``origin`` without a slash at the end, ``prefix`` as set ("/" or "/docs")."""

    origin: str
    prefix: str = "/"
    clean_urls: bool = False

    @property
    def host(self) -> str:
        """The host, with its port if it has one."""
        return urlsplit(self.origin).netloc

    @property
    def root(self) -> str:
        """The URL of the site's root, with a slash at the end."""
        return self.origin + format_target(self.prefix.strip("/")).rstrip("/") + "/"

    def urls_of(self, path: str) -> Iterator[str]:
        """Yield the URLs that answer with the file at ``path``, and those that redirect to them as long as it is there."""
        yield self._url(path)
        folder, _, name = path.rpartition("/")
        if name == INDEX:
            yield self._url(folder + "/" if folder else "")
            if folder or self.prefix != "/":
                yield self._url(folder).rstrip("/")
        elif self.clean_urls and path.endswith(PAGE_SUFFIX):
            yield self._url(path.removesuffix(PAGE_SUFFIX))

    def _url(self, path: str) -> str:
        return self.root + format_target(path).removeprefix("/")
