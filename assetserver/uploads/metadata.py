"""What clients say of an upload beside its name and type: ``Upload-Metadata`` of tus, and the fields of a form before its file.

It is kept with the upload, told in its JSON, and means nothing here.
"""

from __future__ import annotations

from assetserver.errors import BadRequestError, TooLargeError

from .records import Upload

METADATA_AS_SENT = "Upload-Metadata as sent"
CONCAT_AS_SENT = "Upload-Concat as sent"
"""Keys of ``Upload.metadata`` that no client can send: keys of tus hold no space, and forms may not have these fields."""

_OURS = frozenset({METADATA_AS_SENT, CONCAT_AS_SENT})

LIMIT_METADATA_BYTES = 4096
LIMIT_METADATA_KEYS = 32


class FormMetadata:
    """The fields of a form, as far as it has come: what stands before a file is said of it, as in forms that S3 takes."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._bytes = 0

    def add(self, name: str, value: str) -> None:
        """Take a field; of several of a name the last stands. Raises ``BadRequestError`` for a name that is not to be had."""
        if name in _OURS:
            raise BadRequestError(f"a form cannot have a field {name!r}")
        self._bytes += len(name.encode()) + len(value.encode())
        self._values[name] = value

    def of_file(self) -> dict[str, str]:
        """Return what is said of a file that comes now. Raises ``TooLargeError`` for more than is kept with an upload."""
        if len(self._values) > LIMIT_METADATA_KEYS or self._bytes > LIMIT_METADATA_BYTES:
            raise TooLargeError(
                f"the fields before a file are kept with it: {LIMIT_METADATA_KEYS} at most, of {LIMIT_METADATA_BYTES} bytes; "
                "send larger ones behind the files, where they are read and not kept"
            )
        return dict(self._values)


def client_metadata(upload: Upload) -> dict[str, str]:
    """Return the metadata of an upload as the client means it, without what is kept for ``HEAD``."""
    return {key: value for key, value in upload.metadata.items() if key not in _OURS}
