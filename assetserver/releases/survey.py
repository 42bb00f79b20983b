"""Looks into pages, style sheets and scripts: what they refer to, once per blob; a lot of it in child processes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from hashlib import sha256

from assetserver.errors import FileChangedError, PublishError
from assetserver.storage.blobs import Digest
from assetserver.storage.signatures import Signature, read_signed

from .crew import run_all
from .examine import LIMIT_BYTES, Kind, examine, kind_of
from .facts import Facts
from .library import Library
from .scan import FoundFile
from .storing import Progress, StoredFile

LITTLE_BYTES = 1 << 20
"""What takes less time than starting processes: pages are read with 5 to 10 MB/s, and threads do not share that work."""

BATCH = 64

_Subject = tuple[Digest, Kind]
_Batch = list[tuple[_Subject, str, Signature]]
_Found = list[tuple[_Subject, Facts]]


def survey_files(library: Library, stored: Iterable[StoredFile], progress: Progress, *, dry_run: bool) -> dict[str, Facts]:
    """Return what each page, style sheet and script says of others, by path. May be repeated.

    What was looked into before, for whichever release, is only looked up; with ``dry_run`` nothing is kept. Raises
    ``PublishError`` if a file cannot be read.
    """
    subjects: dict[str, _Subject] = {}
    found: dict[_Subject, Facts] = {}
    wanted: dict[_Subject, FoundFile] = {}
    for one in stored:
        kind = kind_of(one.found.path) if one.found.size <= LIMIT_BYTES else None
        if kind is None:
            continue
        subject = subjects[one.found.path] = one.digest, kind
        if subject in found or subject in wanted:
            continue
        if (known := library.facts_of(*subject)) is None:
            wanted[subject] = one.found
        else:
            found[subject] = known
    total, size = sum(one.size for one in wanted.values()), 0
    with closing(_examine_all(wanted, total)) as results:
        for count, (subject, facts) in enumerate(results, 1):
            if not dry_run:
                library.save_facts(*subject, facts)
            found[subject] = facts
            size += wanted[subject].size
            progress("checking", size, total, count, len(wanted))
    return {path: found[subject] for path, subject in subjects.items()}


def _examine_all(wanted: Mapping[_Subject, FoundFile], total: int) -> Generator[tuple[_Subject, Facts], None, None]:
    tasks = [(subject, one.full, one.signature) for subject, one in wanted.items()]
    batches = [tasks[at : at + BATCH] for at in range(0, len(tasks), BATCH)]
    with closing(run_all(examine_batch, batches, is_little=total <= LITTLE_BYTES)) as done:
        for results in done:
            yield from results


def examine_batch(batch: _Batch) -> _Found:
    """Return what is in the files of a batch, by what they hold and are. Runs in a child process."""
    return [(subject, examine(subject[1], _read(subject[0], full, signature))) for subject, full, signature in batch]


def _read(digest: Digest, full: str, signature: Signature) -> bytes:
    """Return the content of a file that was hashed a moment ago."""
    try:
        content = b"".join(read_signed(full, signature))
    except FileChangedError as error:
        raise _changed(full) from error
    except OSError as error:
        raise PublishError(f"{full} cannot be read: {error.strerror}") from error
    if sha256(content).hexdigest() != digest:
        raise _changed(full)
    return content


def _changed(full: str) -> PublishError:
    return PublishError(f"{full} changed while it was read; publish again when the build is done")
