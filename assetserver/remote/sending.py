"""A folder goes to a server: hashed here, only what is missing there travels, eight files at a time.

What the server's checks stop, as far as file names and secrets go, is stopped here before anything is sent: a private key never
leaves this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from assetserver.errors import DictionaryMissingError, FileChangedError, PublishError, RemoteError
from assetserver.releases.bundlers import LIMIT_BYTES as LIMIT_BUNDLER_BYTES
from assetserver.releases.bundlers import MANIFESTS
from assetserver.releases.library import Library
from assetserver.releases.manifest import FileRecord
from assetserver.releases.publish import PublishReport, check_names, publish_scan, take_files
from assetserver.releases.scan import FoundFile, Scan, describe_file, hidden_part, scan_folder
from assetserver.releases.siterules import RULE_FILES
from assetserver.releases.storing import Progress
from assetserver.semantics.mediatypes import is_compressible, media_type_of
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.blobs import Digest
from assetserver.storage.codecs import WORTH_KEEPING, compress, compress_against
from assetserver.storage.signatures import read_signed

from .client import TRANSFERS, Published, Remote, SiteInfo
from .finishing import Missing, Work
from .previous import MINIMUM_BYTES, Previous
from .submission import Submission, WantedFile

ROUNDS = 5
"""How often the server may say that blobs are missing: ``gc`` may take some while a client is away."""

WHOLE_BYTES = 16 << 20
"""Files up to this size are compressed before they are sent, so that they can go uncompressed where that is shorter."""


@dataclass(frozen=True, slots=True)
class Build:
    """A folder that was hashed: its files by path, where each digest is read from, and what was left out."""

    scan: Scan
    files: Mapping[str, WantedFile]
    sources: Mapping[str, FoundFile]
    records: Mapping[str, FileRecord]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """How publishing ended: the release, and how many files and bytes had to travel, before and after compression."""

    published: Published
    blobs: int
    bytes: int
    sent_bytes: int


def read_build(library: Library, folder: str, info: SiteInfo, progress: Progress) -> Build:
    """Hash the files in ``folder``. ``library``: a place for nothing: it is only looked at.

    Raises ``PublishError`` as ``publish_folder`` does, for what can be told without looking at references.
    """
    scan = scan_folder(folder, RULE_FILES)

    def hashing(_: str, *counts: int) -> None:
        progress("hashing", *counts)

    taken = take_files(library, scan, hashing, info.options.policy, dry_run=True)
    records: dict[str, FileRecord] = {one.found.path: FileRecord(one.digest, one.found.size) for one in taken.kept}
    check_names(records, taken.left_out, taken.secrets, info.options)
    sources: dict[str, FoundFile] = {one.digest: one.found for one in taken.kept}
    files: dict[str, WantedFile] = {path: WantedFile(one.digest, one.size) for path, one in records.items()}
    for found in (*scan.rule_files.values(), *_hidden_manifests(scan)):
        digest = _hash(found)
        files[found.path] = WantedFile(digest, found.size)
        sources[digest] = found
    return Build(scan, files, sources, records, tuple(sorted(taken.left_out)))


def send_build(
    remote: Remote, build: Build, site: str, submission: Submission, progress: Progress, previous: Previous | None = None
) -> Sent:
    """Publish ``build`` to ``site`` of ``remote``, as ``submission`` says. May be repeated: only what is missing travels.

    Of texts of which ``previous`` knows the version before, only the difference does; it then keeps those of this build.
    Raises ``PublishError`` for what the server's checks stop, and if a file changes meanwhile.
    """
    blobs = size = sent_bytes = 0

    def tell(work: Work) -> None:
        progress(work.what, work.size, work.total, work.files, work.all_files)

    for _ in range(ROUNDS):
        outcome = remote.submit(submission, site, tell)
        if not isinstance(outcome, Missing):
            _keep(build, previous)
            return Sent(outcome, blobs, size, sent_bytes)
        missing = _find_sources(build, outcome)
        sent_bytes += _send_all(remote, missing, progress, previous)
        blobs += len(missing)
        size += sum(one.size for one in missing.values())
    raise RemoteError(f"{remote.url} loses what it is sent: it asked {ROUNDS} times; is gc running there all the time?")


def count_missing(remote: Remote, build: Build, site: str, submission: Submission) -> tuple[int, int]:
    """Return how many blobs, and how many bytes, would have to travel; nothing does."""
    outcome = remote.submit(submission, site, lambda _: None)
    if not isinstance(outcome, Missing):
        return 0, 0
    missing = _find_sources(build, outcome)
    return len(missing), sum(one.size for one in missing.values())


def rehearse(library: Library, build: Build, info: SiteInfo, progress: Progress) -> PublishReport:
    """Return what the server would make of ``build``: the same checks, the same release."""
    return publish_scan(library, build.scan, progress, info.options, dry_run=True)


def _find_sources(build: Build, missing: Missing) -> dict[str, FoundFile]:
    unknown = [digest for digest in missing.digests if digest not in build.sources]
    if unknown:
        raise RemoteError(f"the server asks for {unknown[0][:80]!r}, which was never offered")
    return {digest: build.sources[digest] for digest in missing.digests}


def _keep(build: Build, previous: Previous | None) -> None:
    """Have ``previous`` know the texts of ``build``; one that changes meanwhile is not kept."""
    if previous is None:
        return

    def read(digest: str) -> Iterator[bytes]:
        found = build.sources[digest]
        with suppress(OSError, FileChangedError):
            yield from read_signed(found.full, found.signature)

    previous.keep(((path, one.digest, one.size) for path, one in sorted(build.records.items())), read)


def _send_all(remote: Remote, missing: Mapping[str, FoundFile], progress: Progress, previous: Previous | None) -> int:
    """Send files, the largest first, so that none is waited for in the end; return how many bytes travelled."""
    total, size, travelled = sum(one.size for one in missing.values()), 0, 0
    order = sorted(missing.items(), key=lambda item: -item[1].size)
    with ThreadPoolExecutor(TRANSFERS, "assetserver-send") as pool:
        sizes = {pool.submit(_send, remote, digest, found, previous): found.size for digest, found in order}
        try:
            for count, done in enumerate(as_completed(sizes), 1):
                travelled += done.result()
                size += sizes[done]
                progress("sending", size, total, count, len(order))
        except BaseException:
            remote.closing.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return travelled


def _send(remote: Remote, digest: str, found: FoundFile, previous: Previous | None) -> int:
    """Send one file; return how many bytes that took."""
    try:
        if previous is not None and (version := previous.find(found.path, found.size)) is not None:
            body = _Body(remote, found, version)
            if body.is_delta:
                with previous.turns, suppress(DictionaryMissingError):  # gc took it there
                    return _send_body(remote, digest, found, body)
        return _send_body(remote, digest, found, _Body(remote, found))
    except FileChangedError as error:
        raise _changed(found) from error
    except OSError as error:
        raise PublishError(f"{found.path} cannot be read: {error.strerror}") from error


def _send_body(remote: Remote, digest: str, found: FoundFile, body: _Body) -> int:
    remote.send_blob(digest, found.size, body, body.fields)
    return body.sent


class _Body:
    """The bytes of a file as they travel: zstd where that is worth it, or the difference to ``version``, its digest and bytes.

    ``fields`` say which.
    """

    def __init__(self, remote: Remote, found: FoundFile, version: tuple[Digest, bytes] | None = None) -> None:
        self.sent = 0
        self._remote = remote
        self._found = found
        self._whole: bytes | None = None
        is_text = found.size >= MINIMUM_BYTES and is_compressible(media_type_of(found.path))
        self._is_coded = is_text and not (found.size <= WHOLE_BYTES and not self._compress())
        self.is_delta = version is not None and self._compress_against(*version)
        coding = "dcz" if self.is_delta else "zstd" if self._is_coded else ""
        self.fields = {"Content-Encoding": coding} if coding else {}
        if self._whole is None and not self._is_coded:
            self.fields["Content-Length"] = str(found.size)

    def __call__(self) -> bytes | Iterable[bytes]:
        """Return the body, anew for each attempt."""
        self.sent = 0
        if self._whole is not None:
            self.sent = len(self._whole)
            return self._whole
        return self._count(self._coded() if self._is_coded else self._pieces())

    def _compress(self) -> bool:
        """Compress the file; return whether that is worth it."""
        content = b"".join(self._coded())
        if len(content) > self._found.size * WORTH_KEEPING:
            return False
        self._whole = content
        return True

    def _compress_against(self, digest: Digest, dictionary: bytes) -> bool:
        """Make the difference to a version before; return whether that is shorter than what there is."""
        delta = compress_against(dictionary, bytes.fromhex(digest), b"".join(self._pieces()))
        if len(delta) >= (self._found.size if self._whole is None else len(self._whole)):
            return False
        self._whole = delta
        return True

    def _coded(self) -> Iterator[bytes]:
        return compress(ContentCoding.ZSTD, self._pieces(), self._found.size)

    def _count(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.sent += len(piece)
            if piece:
                yield piece

    def _pieces(self) -> Iterator[bytes]:
        for piece in read_signed(self._found.full, self._found.signature):
            if self._remote.closing.is_set():
                raise RemoteError("stopped")
            yield piece


def _hidden_manifests(scan: Scan) -> Iterator[FoundFile]:
    """Yield the manifests of bundlers that are left out, for their names begin with a dot, and are read all the same."""
    for name in sorted(filter(hidden_part, MANIFESTS)):
        place = scan.place_of(name)
        if os.path.isfile(place) and os.path.getsize(place) <= LIMIT_BUNDLER_BYTES:
            with suppress(PublishError):
                yield describe_file(os.path.realpath(place), name)


def _hash(found: FoundFile) -> Digest:
    digest = sha256()
    try:
        for piece in read_signed(found.full, found.signature):
            digest.update(piece)
    except FileChangedError as error:
        raise _changed(found) from error
    except OSError as error:
        raise PublishError(f"{found.path} cannot be read: {error.strerror}") from error
    return Digest(digest.hexdigest())


def _changed(found: FoundFile) -> PublishError:
    return PublishError(f"{found.path} changed while it was sent; publish again when the build is done")
