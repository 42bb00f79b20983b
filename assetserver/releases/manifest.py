"""The manifest: what a release holds, as canonical bytes whose SHA-256 is the release's id. Pure.

The same files give the same id, on every machine and at any time: no clock, no order of the file system, no message is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NewType

import msgspec

from assetserver.errors import PublishError
from assetserver.storage.blobs import Digest

from .siterules import NO_RULES, SiteRules

ReleaseId = NewType("ReleaseId", str)
"""SHA-256 of the canonical manifest, 64 lower-case hex digits; people write the first twelve."""

FORMAT = 1
SHORT = 12


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of a release: its blob, its size in bytes, and why its name may be a fingerprint ("" if not; see ``names``)."""

    digest: Digest
    size: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a release holds: its files by canonical path, its rules, and the values of the ``Link`` field by page."""

    files: Mapping[str, FileRecord] = field(default_factory=dict)
    rules: SiteRules = NO_RULES
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the canonical bytes: JSON with sorted keys, no spaces, UTF-8, a line feed at the end; nothing empty."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "files": {
                path: {"sha256": one.digest, "size": one.size} | ({"fingerprint": one.fingerprint} if one.fingerprint else {})
                for path, one in self.files.items()
            },
        }
        if self.rules != NO_RULES:
            content["rules"] = msgspec.to_builtins(self.rules)
        if self.links:
            content["links"] = dict(self.links)
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    @property
    def id(self) -> ReleaseId:
        """The release's id."""
        return ReleaseId(sha256(self.encode()).hexdigest())


def decode_manifest(content: bytes, expected: ReleaseId) -> Manifest:
    """Return the manifest that ``content`` encodes. Raises ``PublishError`` if it is not the one with the id ``expected``."""
    if sha256(content).hexdigest() != expected:
        raise PublishError(f"the manifest of release {expected[:SHORT]} is damaged; publish it again")
    try:
        found = msgspec.json.decode(content, type=_Stored)
    except msgspec.DecodeError as error:
        raise PublishError(
            f"the manifest of release {expected[:SHORT]} was made by another version ({error}); publish it again"
        ) from error
    files = {path: FileRecord(one.sha256, one.size, one.fingerprint) for path, one in found.files.items()}
    return Manifest(files, found.rules, found.links)


class _StoredFile(msgspec.Struct):
    sha256: Digest
    size: int
    fingerprint: str = ""


class _Stored(msgspec.Struct):
    format: int
    files: dict[str, _StoredFile]
    rules: SiteRules = NO_RULES
    links: dict[str, tuple[str, ...]] = {}
