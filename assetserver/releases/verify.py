"""Verification: everything that releases are made of is read again, and what is wrong is named with what it harms."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice

from assetserver.errors import BlobMissingError, PublishError, ReleaseMissingError
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.blobs import Digest
from assetserver.storage.codecs import DCZ_MAGIC, DECODE_ERRORS, decode

from .collect import collecting_lock, has_damaged_codings, publishing_lock
from .deltas import decodes_to
from .library import CodedBlob, Delta, Library
from .manifest import SHORT, ReleaseId
from .sites import SiteState

Progress = Callable[[str, int, int], None]
CheckManifest = Callable[[ReleaseId], None]
"""Raises ``PublishError`` for a release whose manifest is not to be trusted, such as one without a good signature."""

_CHUNK = 1_000
_PUBLISH = "publish these files again"
_REPAIR = "run assetserver verify --repair, then publish these files again"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong: ``what`` is a sentence, ``remedy`` what to do. ``used`` says by which paths of which releases."""

    kind: str
    what: str
    remedy: str
    blob: Digest | None = None
    used: tuple[tuple[ReleaseId, str], ...] = ()
    repaired: bool = False


@dataclass(slots=True)
class VerifyReport:
    """What was checked, and what is wrong. ``bytes`` were hashed.

    Releases that no site keeps and blobs that no release refers to are no fault: ``gc`` removes them.
    """

    faults: list[Fault] = field(default_factory=list)
    releases: int = 0
    unkept: int = 0
    blobs: int = 0
    bytes: int = 0
    unreferenced: int = 0
    unreferenced_bytes: int = 0
    seconds: float = 0.0


def verify(
    library: Library,
    progress: Progress,
    release: ReleaseId | None = None,
    *,
    repair: bool = False,
    check_manifest: CheckManifest | None = None,
    on_wait: Callable[[], None] | None = None,
) -> VerifyReport:
    """Read everything again, or what ``release`` needs, and return what was found.

    ``repair`` removes damaged blobs and records, so that publishing the same files again stores them anew; manifests and states
    stay. Collections wait meanwhile; a repair waits for publishing to end, since that takes blobs that are there as sound.
    """
    begun_s = time.monotonic()
    report = VerifyReport()
    if os.path.isdir(library.folder):
        lock = collecting_lock if repair else publishing_lock
        with lock(library.folder, on_wait):
            _Verification(library, report, progress, repair=repair).run(release, check_manifest)
    report.seconds = time.monotonic() - begun_s
    return report


class _Verification:
    """One run of ``verify``."""

    def __init__(self, library: Library, report: VerifyReport, progress: Progress, *, repair: bool) -> None:
        self._library = library
        self._report = report
        self._progress = progress
        self._repair = repair
        self._sizes: dict[Digest, int] = {}
        self._forms: set[str] = set()
        self._with_deltas = library.blobs_with_deltas()
        self._done = 0

    def run(self, release: ReleaseId | None, check_manifest: CheckManifest | None) -> None:
        named = {} if release else self._check_states()
        wanted = {release} if release else {*self._library.manifests(), *named}
        sound = [one for one in sorted(wanted) if self._check_manifest(one, named.get(one, ()), check_manifest)]
        self._report.releases = len(wanted)
        self._report.unkept = 0 if release else len(wanted - named.keys())
        faults = list(self._check_blobs())
        self._report.faults += self._name_paths(faults, sound)
        if release is None:
            self._count_unreferenced()

    def _check_states(self) -> dict[ReleaseId, list[str]]:
        """Check what the sites serve and keep; return which sites name each release."""
        named: dict[ReleaseId, list[str]] = {}
        for name in self._library.site_names():
            with suppress(NotADirectoryError):
                for release in self._read_state(name):
                    named.setdefault(release, []).append(name)
        return named

    def _read_state(self, name: str) -> set[ReleaseId]:
        try:
            site = self._library.site(name)
            state = site.read()
        except PublishError as error:
            self._report.faults.append(_as_fault("state", error))
            return set()
        if site.is_state_lost():
            self._report.faults.append(Fault("state", f"{site.path} is gone", "bring it back from a copy, or publish again"))
        kept = {one.id for one in state.releases}
        for what, release in _names_of(state):
            if release not in kept:
                text = f"site {name}: {what} is release {release[:SHORT]}, which is not kept"
                self._report.faults.append(Fault("state", text, _PUBLISH))
        return kept | {release for _, release in _names_of(state)}

    def _check_manifest(self, release: ReleaseId, sites: Iterable[str], check: CheckManifest | None) -> bool:
        """Check a manifest, and note which blobs it wants; return whether it can be read."""
        where = f" (site {', '.join(sites)})" if sites else ""
        try:
            files = self._library.load_manifest(release).files
        except ReleaseMissingError:
            text = f"the manifest of release {release[:SHORT]} is gone{where}"
            self._report.faults.append(Fault("manifest", text, _PUBLISH))
            return False
        except PublishError as error:
            self._report.faults.append(_as_fault("manifest", error, where))
            return False
        self._sizes.update((record.digest, record.size) for record in files.values())
        try:
            if check is not None:
                check(release)
        except PublishError as error:
            self._report.faults.append(_as_fault("signature", error, where))
        return True

    def _check_blobs(self) -> Iterator[Fault]:
        """Read every blob and its compressed forms, on a thread per core: hashing and decoding release the GIL."""
        total = sum(self._sizes.values())
        digests = iter(sorted(self._sizes))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "assetserver-verify") as pool:
            while chunk := list(islice(digests, _CHUNK)):
                for digest, found in zip(chunk, pool.map(self._check_blob, chunk), strict=True):
                    self._done += self._sizes[digest]
                    self._progress("verifying", self._done, total)
                    forms, bytes_read, faults = found
                    self._report.blobs += 1 + len(forms)
                    self._report.bytes += bytes_read
                    self._forms.update(forms)
                    yield from faults

    def _check_blob(self, digest: Digest) -> tuple[list[Digest], int, list[Fault]]:
        """Check a blob, its records, its forms and its deltas; return which these are, the bytes read and what is wrong."""
        faults = []
        size, wrong = self._hash(digest, self._sizes[digest])
        if wrong:
            faults.append(self._mend_blob(Fault("blob", f"blob {digest[:SHORT]} {wrong}", _REPAIR, digest), digest))
        if has_damaged_codings(self._library, digest):
            text = f"the record of the compressed forms of blob {digest[:SHORT]} is damaged"
            faults.append(self._mend_record(Fault("codings", text, _REPAIR, digest)))
        forms = self._library.codings_of(digest) or ()
        for form in forms:
            form_size, wrong = self._check_form(form, digest)
            size += form_size
            if wrong:
                text = f"blob {form.digest[:SHORT]}, the {form.coding} form of {digest[:SHORT]}, {wrong}"
                fault = self._mend_blob(Fault("form", text, _REPAIR, digest), form.digest)
                faults.append(self._mend_record(fault))
        deltas, delta_bytes, wrong_deltas = self._check_deltas(digest) if digest in self._with_deltas else ([], 0, [])
        return [*(one.digest for one in forms), *deltas], size + delta_bytes, faults + wrong_deltas

    def _check_deltas(self, digest: Digest) -> tuple[list[Digest], int, list[Fault]]:
        """As ``_check_blob``, of the deltas of a blob."""
        faults, size = [], 0
        if not self._library.tried_deltas(digest):
            text = f"the record of the deltas of blob {digest[:SHORT]} is damaged"
            faults.append(self._mend_deltas(Fault("delta", text, _REPAIR, digest)))
        deltas = self._library.deltas_of(digest)
        for delta in deltas:
            delta_size, wrong = self._check_delta(delta, digest)
            size += delta_size
            if wrong:
                text = f"blob {delta.digest[:SHORT]}, a delta of {digest[:SHORT]}, {wrong}"
                fault = self._mend_deltas(Fault("delta", text, _REPAIR, digest), delta.digest)
                faults.append(self._mend_blob(fault, delta.digest))
        return [one.digest for one in deltas], size, faults

    def _hash(self, digest: Digest, size: int) -> tuple[int, str]:
        """Return the bytes read, and what is wrong with a blob, "" for a sound one."""
        hashed, count = sha256(), 0
        try:
            for piece in self._library.blobs.read(digest):
                hashed.update(piece)
                count += len(piece)
        except BlobMissingError:
            return 0, "is gone"
        except OSError as error:
            return count, f"cannot be read ({error.strerror})"
        if count != size:
            return count, f"is damaged: {count:,} bytes long, not {size:,}"
        return count, "" if hashed.hexdigest() == digest else "is damaged: its bytes were altered"

    def _check_form(self, form: CodedBlob, digest: Digest) -> tuple[int, str]:
        try:
            size, wrong = self._hash(form.digest, form.size)
            return size, wrong or self._check_decoding(form, digest)
        except ValueError as error:  # what should be a digest or a coding is none
            return 0, f"is not what a record can name ({error})"

    def _check_decoding(self, form: CodedBlob, digest: Digest) -> str:
        decoded = sha256()
        try:
            for piece in decode(ContentCoding(form.coding), self._library.blobs.read(form.digest)):
                decoded.update(piece)
        except (*DECODE_ERRORS, KeyError) as error:
            return f"does not decode ({error})"
        return "" if decoded.hexdigest() == digest else "decodes to other bytes"

    def _check_delta(self, delta: Delta, digest: Digest) -> tuple[int, str]:
        try:
            size, wrong = self._hash(delta.digest, delta.size)
            if wrong or self._library.blobs.size_of(delta.dictionary) is None:  # ``gc`` removes deltas whose dictionary went
                return size, wrong
            content, known = (b"".join(self._library.blobs.read(one)) for one in (delta.digest, delta.dictionary))
            if not content.startswith(DCZ_MAGIC + bytes.fromhex(delta.dictionary)):
                return size, "names another dictionary"
            return size, "" if decodes_to(digest, known, content) else "decodes to other bytes"
        except DECODE_ERRORS as error:
            return 0, f"does not decode ({error})"
        except ValueError as error:  # what should be a digest is none
            return 0, f"is not what a record can name ({error})"

    def _mend_blob(self, fault: Fault, digest: Digest) -> Fault:
        if not self._repair:
            return fault
        with suppress(ValueError):
            self._library.blobs.delete(digest)
        return replace(fault, repaired=True, remedy=_PUBLISH)

    def _mend_record(self, fault: Fault) -> Fault:
        if not self._repair:
            return fault
        assert fault.blob is not None  # noqa: S101 - a record is of a blob
        self._library.delete_codings(fault.blob)
        return replace(fault, repaired=True, remedy=_PUBLISH)

    def _mend_deltas(self, fault: Fault, delta: Digest | None = None) -> Fault:
        """Forget one delta of a blob, or all."""
        if not self._repair:
            return fault
        assert fault.blob is not None  # noqa: S101 - as above
        self._library.drop_deltas(fault.blob, lambda one: delta is not None and one.digest != delta)
        return replace(fault, repaired=True, remedy=_PUBLISH)

    def _name_paths(self, faults: list[Fault], releases: list[ReleaseId]) -> Iterator[Fault]:
        """Return the faults with what they harm. Only damage costs another look at the manifests, so that none need memory."""
        used: dict[Digest, list[tuple[ReleaseId, str]]] = {fault.blob: [] for fault in faults if fault.blob}
        for release in releases if used else ():
            for path, record in self._library.load_manifest(release).files.items():
                if record.digest in used:
                    used[record.digest].append((release, path))
        for fault in faults:
            yield replace(fault, used=tuple(used[fault.blob])) if fault.blob else fault

    def _count_unreferenced(self) -> None:
        for blob in self._library.blobs.list_blobs():
            if blob.digest not in self._sizes and blob.digest not in self._forms:
                self._report.unreferenced += 1
                self._report.unreferenced_bytes += blob.size


def _names_of(state: SiteState) -> list[tuple[str, ReleaseId]]:
    """Return what a state names beside the releases that it keeps: what it serves, and what its aliases mean."""
    active = [("what is active", state.active)] if state.active else []
    return [*active, *((f"@{alias}", release) for alias, release in state.aliases.items())]


def _as_fault(kind: str, error: PublishError, where: str = "") -> Fault:
    what, _, remedy = str(error).partition("; ")
    return Fault(kind, what + where, remedy or _PUBLISH)
