"""The data folder of releases: blobs, compressed forms, manifests, sites. Knows where everything lies; decides nothing.

``blobs/ab/…`` bytes · ``codings/ab/….json`` compressed forms of a blob · ``deltas/ab/….json`` its deltas · ``facts/ab/…`` what
a blob names · ``releases/….json`` manifests, ``….index`` their indexes, ``….digests`` what of them a client may hold as a
dictionary, ``….sources`` what they were made of, ``….json.minisig`` their signatures · ``sites/…/`` states
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Protocol

import msgspec

from assetserver.errors import PublishError, ReleaseMissingError
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.blobs import BlobStore, Digest, LocalBlobs, PushedBlobs
from assetserver.storage.durable import DISK_IS_FULL, locked, make_durable_folder, replace_durably, replace_quickly, sync_folder

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


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """A blob as ``dcz`` (RFC 9842): what it has that the blob ``dictionary`` has not. Itself a blob, of ``size`` bytes.

    Without a ``digest``: that was tried, and is no use.
    """

    dictionary: Digest
    digest: Digest
    size: int


DELTAS_KEPT = 16
"""Deltas of one blob that are recorded, the newest; what others were is for ``gc``."""


class Library:
    """All releases in ``folder``. ``blobs`` are their bytes."""

    def __init__(self, folder: str, blobs: ReleaseBlobs) -> None:
        self.folder = folder
        self.blobs = blobs
        self.deltas_folder = os.path.join(folder, "deltas")

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

    def deltas_of(self, digest: Digest) -> tuple[Delta, ...]:
        """Return the deltas of a blob that were made; none if their record is damaged. Their blobs may have gone."""
        return tuple(one for one in self.tried_deltas(digest) if one.digest)

    def tried_deltas(self, digest: Digest) -> tuple[Delta, ...]:
        """As ``deltas_of``, with those that turned out to be no use."""
        try:
            with open(self.deltas_path(digest), "rb") as file:
                return msgspec.json.decode(file.read(), type=tuple[Delta, ...])
        except (FileNotFoundError, msgspec.DecodeError, UnicodeError):
            return ()

    def save_deltas(self, made: Mapping[Digest, Sequence[Delta]]) -> None:
        """Keep deltas of blobs beside those that are there, durably; they are made durable first. May be repeated."""
        self.blobs.confirm([one.digest for deltas in made.values() for one in deltas if one.digest])
        with locked(os.path.join(self.deltas_folder, "lock")) if made else nullcontext():
            for digest, deltas in made.items():
                new = {one.dictionary for one in deltas}
                older = [one for one in self.tried_deltas(digest) if one.dictionary not in new]
                self._write_deltas(digest, (*deltas, *older)[:DELTAS_KEPT])
            for folder in sorted({os.path.dirname(self.deltas_path(digest)) for digest in made}):
                sync_folder(folder)

    def blobs_with_deltas(self) -> set[str]:
        """Return the blobs that have a record of deltas; other names may be among them."""
        shelves = os.listdir(self.deltas_folder) if os.path.isdir(self.deltas_folder) else ()
        folders = [path for shelf in shelves if os.path.isdir(path := os.path.join(self.deltas_folder, shelf))]
        return {name.removesuffix(".json") for folder in folders for name in os.listdir(folder)}

    def drop_deltas(self, digest: Digest, keep: Callable[[Delta], bool]) -> None:
        """Forget which deltas of a blob do not ``keep``, all on a disk that is full; may be repeated.

        The caller removes their blobs, after this.
        """
        with locked(os.path.join(self.deltas_folder, "lock")):
            left = tuple(one for one in self.tried_deltas(digest) if keep(one))
            try:
                if left:
                    self._write_deltas(digest, left)
            except OSError as error:
                if error.errno not in DISK_IS_FULL:
                    raise
                left = ()
            if not left:
                with suppress(FileNotFoundError):
                    os.unlink(self.deltas_path(digest))
            sync_folder(os.path.dirname(self.deltas_path(digest)))

    def _write_deltas(self, digest: Digest, deltas: tuple[Delta, ...]) -> None:
        replace_durably(self.deltas_path(digest), msgspec.json.encode(deltas), confirmed=False)

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

    def save_sources(self, release: ReleaseId, sources: Mapping[str, str]) -> None:
        """Keep what a bundler made the files of a release of, by path. Not durably: it only helps to find what they become."""
        replace_quickly(self._sources_path(release), msgspec.json.encode(sources))

    def sources_of(self, release: ReleaseId) -> dict[str, str]:
        """Return what ``save_sources`` kept; nothing if that is lost or damaged."""
        try:
            with open(self._sources_path(release), "rb") as file:
                return msgspec.json.decode(file.read(), type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError, UnicodeError):
            return {}

    def _sources_path(self, release: ReleaseId) -> str:
        return os.path.join(self.folder, "releases", f"{release}.sources")

    def digests_path(self, release: ReleaseId) -> str:
        """Return where it lies which files of a release a client may hold as a dictionary."""
        return os.path.join(self.folder, "releases", f"{release}.digests")

    def deltas_path(self, digest: Digest) -> str:
        """Return where it lies which deltas of a blob there are."""
        return os.path.join(self.deltas_folder, digest[:2], f"{digest}.json")

    def _facts_path(self, digest: Digest, kind: str) -> str:
        return os.path.join(self.folder, "facts", digest[:2], f"{digest}-{kind}-{FACTS_VERSION}")

    def _codings_path(self, digest: Digest) -> str:
        return os.path.join(self.folder, "codings", digest[:2], f"{digest}.json")


CODINGS = (ContentCoding.BR, ContentCoding.ZSTD, ContentCoding.GZIP)
