"""Publish a folder to a server and make it live, and die at the request with the given number: run as a program.

Arguments: URL, folder, an empty folder, number (0 to live), and when: ``before`` the request, in the ``middle`` of its body, or
``after`` its answer. Printed is the release's id.
"""

import os
import sys
from collections.abc import Iterator

import httpx

from assetserver.data import open_empty
from assetserver.remote.client import Remote
from assetserver.remote.sending import read_build, send_build
from assetserver.remote.submission import Submission

TOKEN = "right-token"  # noqa: S105 - of a server on loopback


class Killed(httpx.HTTPTransport):
    """Ends this process, as ``kill -9`` would, at request number ``last``."""

    def __init__(self, last: int, when: str) -> None:
        super().__init__()
        self._left = last
        self._when = when

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, or die."""
        self._left -= 1
        is_last = self._left == 0
        if is_last and self._when == "before":
            os._exit(137)
        if is_last and self._when == "middle":
            content = request.read()
            request.stream = _Cut(content[: len(content) // 2])
        answer = super().handle_request(request)
        if is_last:
            answer.read()
            os._exit(137)
        return answer


class _Cut(httpx.SyncByteStream):
    def __init__(self, half: bytes) -> None:
        self._half = half

    def __iter__(self) -> Iterator[bytes]:
        yield self._half
        os._exit(137)


def main() -> None:
    """Run as told by the arguments."""
    url, folder, nowhere, last, when = sys.argv[1:]
    with Remote(url, TOKEN, Killed(int(last), when)) as remote:
        build = read_build(open_empty(nowhere), folder, remote.describe_site(""), lambda *_: None)
        sent = send_build(remote, build, "", Submission(dict(build.files)), lambda *_: None)
        remote.activate(sent.published.id, "")
    sys.stdout.write(sent.published.id)


if __name__ == "__main__":
    main()
