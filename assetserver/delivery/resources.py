"""What the folders of one process share: threads, memory, compressed forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from assetserver.storage.pools import FilePool

from .encodings import Encodings
from .memory import MemoryCache
from .openfiles import OpenFiles


@dataclass(frozen=True)
class Resources:
    """Bounds and pools of delivery. One per process is enough; ``shared_resources`` is the default."""

    memory: MemoryCache = field(default_factory=MemoryCache)
    encodings: Encodings = field(default_factory=Encodings)
    open_files: OpenFiles = field(default_factory=OpenFiles)
    files: FilePool = field(default_factory=lambda: FilePool("assetserver-files", 4))
    compressors: FilePool = field(default_factory=lambda: FilePool("assetserver-compress", 2, niceness=10))
    makers: FilePool = field(default_factory=lambda: FilePool("assetserver-deltas", 1, niceness=10))
    listings: FilePool = field(default_factory=lambda: FilePool("assetserver-listings", 1))

    def close(self) -> None:
        """End the threads: what reads a file ends at its next piece, what was waiting is dropped."""
        self.listings.close()
        self.makers.close()
        self.compressors.close()
        self.files.close()
        self.open_files.clear()


@lru_cache(maxsize=1)
def shared_resources() -> Resources:
    """Return the resources that every ``AssetFiles`` without its own uses."""
    return Resources()
