"""What a client wants published: decoded, and checked as if a stranger had written it. Pure.

``{"files": {PATH: {"sha256": …, "size": …}, …}, "message": …, "alias": …, "left_out": […], "dry_run": …}``

``files`` holds whatever the build folder does: also ``_headers`` and ``_redirects``, which are rules, and the manifests of
bundlers that begin with a dot, which are read and not published. All else that begins with a dot is left out, as it is locally.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from assetserver.complaints import explain
from assetserver.errors import BadRequestError, PublishError
from assetserver.releases.bundlers import MANIFESTS
from assetserver.releases.scan import check_path, choose_paths, hidden_part
from assetserver.releases.siterules import RULE_FILES
from assetserver.semantics.targets import AssetPath

LIMIT_BYTES = 64 << 20
"""Longest submission: 200,000 files with paths of 200 bytes."""

LIMIT_SIZE = 1 << 50


class WantedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must hold: the SHA-256 of its bytes in hexadecimal, and how many they are."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="64 hexadecimal digits, in lower case")]
    size: Annotated[int, Meta(ge=0, le=LIMIT_SIZE)]


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be published: ``files`` by path; and what is said of it, for people.

    ``left_out``: names in the folder that begin with a dot and were not sent. ``dry_run``: only say what is missing.
    """

    files: dict[str, WantedFile]
    message: Annotated[str, Meta(max_length=4096)] = ""
    alias: Annotated[str, Meta(max_length=128)] = ""
    left_out: Annotated[tuple[str, ...], Meta(max_length=10_000)] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the files of a submission: published, read beside (rules, manifests of bundlers), or left out."""

    published: Mapping[AssetPath, WantedFile]
    beside: Mapping[AssetPath, WantedFile]
    left_out: tuple[str, ...]

    @property
    def needed(self) -> dict[AssetPath, WantedFile]:
        """All files whose blobs must be there."""
        return {**self.published, **self.beside}


def decode_submission(content: bytes) -> Submission:
    """Return the submission that ``content`` encodes. Raises ``BadRequestError`` for anything else, a path told twice included.

    Takes memory in proportion to ``content``: its shape is known to be right before anything else looks at it.
    """
    try:
        found = msgspec.json.decode(content, type=Submission)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadRequestError(f"this is not a list of files to publish: {explain(error, Submission)}") from error
    json.loads(content, object_pairs_hook=_refuse_twice)
    return found


def encode_submission(submission: Submission) -> bytes:
    """Return the bytes of ``submission``; the same submission gives the same bytes."""
    return msgspec.json.encode(submission, order="deterministic")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise BadRequestError(f"{name!r} is told twice; which one is meant?")
    return found


def plan_files(submission: Submission) -> Plan:
    """Return what becomes of the files of ``submission``.

    Raises ``PublishError`` for a path that cannot have a URL or is spelled in another way than its canonical one, for a file
    that is a folder of others, for one digest with two sizes, and for no or too many files.
    """
    visible: dict[AssetPath, WantedFile] = {}
    beside: dict[AssetPath, WantedFile] = {}
    left_out = set(submission.left_out)
    for path, one in submission.files.items():
        canonical = _check_path(path)
        if hidden := hidden_part(canonical):
            left_out.add(hidden)
            if canonical in MANIFESTS:
                beside[canonical] = one
        else:
            visible[canonical] = one
    _check_folders(submission.files)
    _check_sizes(submission.files)
    published = {path: visible[path] for path in choose_paths(visible, RULE_FILES, "the submission")}
    beside |= {AssetPath(name): visible[AssetPath(name)] for name in RULE_FILES if name in visible}
    return Plan(published, beside, tuple(sorted(left_out)))


def _check_path(path: str) -> AssetPath:
    canonical = check_path(path)
    if canonical != path or not path or path.endswith("/"):
        raise PublishError(f"{path!r} is not how a path is written: no slash first, last or twice")
    return canonical


def _check_folders(files: Mapping[str, object]) -> None:
    """Raise ``PublishError`` if a path lies in another that is a file: no folder holds both."""
    for path in files:
        at = path.find("/")
        while at >= 0:
            if path[:at] in files:
                raise PublishError(f"{path[:at]!r} cannot be a file and the folder of {path!r}")
            at = path.find("/", at + 1)


def _check_sizes(files: Mapping[str, WantedFile]) -> None:
    """Raise ``PublishError`` if the same bytes are said to have two sizes."""
    sizes: dict[str, int] = {}
    for path, one in files.items():
        if sizes.setdefault(one.sha256, one.size) != one.size:
            raise PublishError(
                f"{path!r} cannot have {one.size:,} bytes: another file of the same digest has {sizes[one.sha256]:,}"
            )
