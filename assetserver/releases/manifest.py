"""The manifest: what a release holds, as canonical bytes whose SHA-256 is the release's id. Pure.

The same files give the same id, on every machine and at any time: no clock, no order of the file system, no message is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NewType

from assetserver.errors import PublishError
from assetserver.storage.blobs import Digest

ReleaseId = NewType("ReleaseId", str)
"""SHA-256 of the canonical manifest, 64 lower-case hex digits; people write the first twelve."""

FORMAT = 1
SHORT = 12


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of a release: its blob, its size in bytes, and why its name is a fingerprint ("" if it is not)."""

    digest: Digest
    size: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a release holds: its files by canonical path."""

    files: Mapping[str, FileRecord] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the canonical bytes: JSON with sorted keys, no spaces, UTF-8, one line feed at the end."""
        files = {
            path: {"sha256": one.digest, "size": one.size} | ({"fingerprint": one.fingerprint} if one.fingerprint else {})
            for path, one in self.files.items()
        }
        text = json.dumps({"format": FORMAT, "files": files}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode() + b"\n"

    @property
    def id(self) -> ReleaseId:
        """The release's id."""
        return ReleaseId(sha256(self.encode()).hexdigest())


def decode_manifest(content: bytes, expected: ReleaseId) -> Manifest:
    """Return the manifest that ``content`` encodes. Raises ``PublishError`` if it is not the one with the id ``expected``."""
    if sha256(content).hexdigest() != expected:
        raise PublishError(f"the manifest of release {expected[:SHORT]} is damaged; publish it again")
    files = json.loads(content)["files"]
    return Manifest(
        {path: FileRecord(Digest(one["sha256"]), one["size"], one.get("fingerprint", "")) for path, one in files.items()}
    )
