"""The data folder of releases: blobs, compressed forms, manifests, sites. Knows where everything lies; decides nothing.

``blobs/ab/…`` bytes · ``codings/ab/….json`` compressed forms of a blob · ``facts/ab/…`` what a blob names · ``releases/….json``
manifests, ``….index`` their indexes, ``….json.minisig`` their signatures · ``sites/…/`` states
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from assetserver.errors import PublishError, ReleaseMissingError
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.blobs import BlobStore, Digest, LocalBlobs, PushedBlobs
from assetserver.storage.durable import make_durable_folder, replace_durably, replace_quickly, sync_folder

from .facts import FACTS_VERSION, Facts
from .manifest import SHORT, Manifest, ReleaseId, decode_manifest
from .sites import Site


class ReleaseBlobs(BlobStore, LocalBlobs, PushedBlobs, Protocol):
    """What releases need of a blob store: blobs that are files of this machine, and may come from others."""


class CodedBlob(msgspec.Struct, frozen=True, array_like=True):
    """A compressed form of a blob: itself a blob."""

    coding: str
    digest: Digest
    size: int


class Library:
    """All releases in ``folder``. ``blobs`` are their bytes."""

    def __init__(self, folder: str, blobs: ReleaseBlobs) -> None:
        self.folder = folder
        self.blobs = blobs

    def site(self, name: str) -> Site:
        """Return the site called ``name``. Raises ``PublishError`` for what cannot be a name."""
        return Site(os.path.join(self.folder, "sites"), name)

    def site_names(self) -> list[str]:
        """Return the names of the sites that were published to."""
        folder = os.path.join(self.folder, "sites")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def confirm_folders(self) -> None:
        """Make the folders of releases; on return their names survive a crash, whoever made them. May be repeated.

        Who makes a folder may be killed before its name is synced, and nobody else would ever do that.
        """
        sites = os.path.join(self.folder, "sites")
        for folder in (os.path.join(self.folder, "codings"), os.path.join(self.folder, "releases"), sites):
            make_durable_folder(folder)
        with suppress(PermissionError):  # a service need not be allowed to read what is above its data
            sync_folder(os.path.dirname(os.path.abspath(self.folder)))
        sync_folder(self.folder)
        sync_folder(sites)

    def save_manifest(self, manifest: Manifest) -> bool:
        """Keep a manifest durably; False if it was there, whole. Its blobs must be durable already."""
        try:
            self.load_manifest(manifest.id)
        except (ReleaseMissingError, PublishError):
            replace_durably(self.manifest_path(manifest.id), manifest.encode())
            return True
        return False

    def load_manifest(self, release: ReleaseId) -> Manifest:
        """Return a manifest. Raises ``ReleaseMissingError`` if it is not kept, ``PublishError`` if it is damaged."""
        try:
            with open(self.manifest_path(release), "rb") as file:
                return decode_manifest(file.read(), release)
        except FileNotFoundError as error:
            raise ReleaseMissingError(f"release {release[:SHORT]} is not kept here any more") from error

    def manifests(self) -> Iterator[ReleaseId]:
        """Yield the ids of all kept manifests."""
        folder = os.path.join(self.folder, "releases")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if name.endswith(".json") and not name.startswith("."):
                yield ReleaseId(name.removesuffix(".json"))

    def delete_manifest(self, release: ReleaseId) -> None:
        """Forget a manifest. No site's state may name it."""
        os.unlink(self.manifest_path(release))

    def codings_of(self, digest: Digest) -> tuple[CodedBlob, ...] | None:
        """Return the compressed forms of a blob, none where none is worth it, or None if nobody has tried yet."""
        try:
            with open(self._codings_path(digest), "rb") as file:
                return msgspec.json.decode(file.read(), type=tuple[CodedBlob, ...])
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def save_codings(self, made: Mapping[Digest, tuple[CodedBlob, ...]]) -> None:
        """Keep what the compressed forms of blobs are, durably; the forms are made durable first."""
        self.blobs.confirm([one.digest for forms in made.values() for one in forms])
        paths = {self._codings_path(digest): forms for digest, forms in made.items()}
        for path, forms in paths.items():
            replace_durably(path, msgspec.json.encode(forms), confirmed=False)
        for folder in sorted({os.path.dirname(path) for path in paths}):
            sync_folder(folder)
        if paths:
            sync_folder(os.path.join(self.folder, "codings"))  # the folders' own names, whoever made them

    def delete_codings(self, digest: Digest) -> None:
        """Forget the compressed forms of a blob; may be repeated."""
        if os.path.exists(path := self._codings_path(digest)):
            os.unlink(path)

    def facts_of(self, digest: Digest, kind: str) -> Facts | None:
        """Return what was found in a blob, read as ``kind``, or None if nobody has looked, or the record is damaged."""
        try:
            with open(self._facts_path(digest, kind), "rb") as file:
                return msgspec.msgpack.decode(file.read(), type=Facts)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def save_facts(self, digest: Digest, kind: str, facts: Facts) -> None:
        """Keep what was found in a blob. Not durably: it can be found again."""
        path = self._facts_path(digest, kind)
        replace_quickly(path, msgspec.msgpack.encode(facts))

    def manifest_path(self, release: ReleaseId) -> str:
        """Return where a manifest lies."""
        return os.path.join(self.folder, "releases", f"{release}.json")

    def index_path(self, release: ReleaseId) -> str:
        """Return where the index of a release lies: what serving it needs, made from manifest and codings."""
        return os.path.join(self.folder, "releases", f"{release}.index")

    def _facts_path(self, digest: Digest, kind: str) -> str:
        return os.path.join(self.folder, "facts", digest[:2], f"{digest}-{kind}-{FACTS_VERSION}")

    def _codings_path(self, digest: Digest) -> str:
        return os.path.join(self.folder, "codings", digest[:2], f"{digest}.json")


CODINGS = (ContentCoding.BR, ContentCoding.ZSTD, ContentCoding.GZIP)
