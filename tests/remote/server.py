"""A server of releases that is forked for each wish, quickly, and may be told to die: run as a program.

Each line of stdin, ``DATA STEP``, starts one that dies, as ``kill -9`` would have it, before the durable step with that number
(0 to live), and publishes in threads of its own, so that their steps count. Printed are its process id and its port.
"""

from __future__ import annotations

import hmac
import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route

from assetserver.data import open_library
from assetserver.delivery.releasefiles import ReleaseFiles
from assetserver.errors import AssetServerError, ForbiddenError, UnauthorisedError
from assetserver.releases import crew
from assetserver.releases.serving import ActiveIndex
from assetserver.remote import background, endpoint
from assetserver.remote.background import Background, Failed, Job, Outcome, Task
from assetserver.remote.finishing import finish_release
from assetserver.remote.lease import PublishingLease
from assetserver.remoteroutes import open_releases_api
from assetserver.settings import Settings, load_settings

STEPS = ("fsync", "link", "replace")
TOKEN = "right-token"  # noqa: S105 - of a server on loopback
READER = "token-that-may-only-read"

_taken = 0
_lock = threading.Lock()


async def let_pass(request: Request) -> None:
    """Know two tokens, one of which may publish."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if hmac.compare_digest(token, READER):
        raise ForbiddenError("this needs the scope publish; yours: read")
    if not hmac.compare_digest(token, TOKEN):
        raise UnauthorisedError("this needs a token", 'Bearer realm="assetserver"')


def open_app(settings: Settings) -> Starlette:
    """Return the API of releases, and beside it the site itself."""
    library = open_library(settings)
    site = ReleaseFiles(ActiveIndex(library, library.site("default")), library.blobs.path_of)
    api = open_releases_api(settings, let_pass)
    return Starlette(routes=[*(Route(f"/-/api/{path}", one) for path, one in api.resources().items()), Mount("/", site)])


def count_steps(last: int) -> None:
    """Have this process die before step ``last``."""

    def watch(real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **keywords: object) -> object:
            global _taken  # noqa: PLW0603 - a program of one run
            with _lock:
                _taken += 1
                if _taken == last:
                    os._exit(137)
                return real(*args, **keywords)

        return step

    for name in STEPS:
        setattr(os, name, watch(getattr(os, name)))


def publish_here(_: Background, job: Job, task: Task) -> Outcome:
    """Stand for ``Background._watch`` without a child process."""

    def tell(work: background.Work) -> None:
        task.work = work

    try:
        return finish_release(job.library, job.site, job.options, job.content, tell)
    except AssetServerError as error:
        return Failed(error.status, str(error), error.retryable)


def serve(data: str, step: int) -> None:
    """Serve until killed."""
    crew._open_pool = lambda workers, **_: ThreadPoolExecutor(workers)
    Background._watch = publish_here
    endpoint.PublishingLease = partial(PublishingLease, patience_s=1.0)
    listener = socket.create_server(("127.0.0.1", 0))
    app = open_app(load_settings(None, {}, {"data.path": data}))
    if step:
        count_steps(step)
    sys.stdout.write(f"{os.getpid()} {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run([listener])


def main() -> None:
    """Fork a server for each line."""
    for line in sys.stdin:
        data, step = line.split()
        if os.fork() == 0:
            serve(data, int(step))
            os._exit(0)


if __name__ == "__main__":
    main()
