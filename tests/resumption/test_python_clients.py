"""tuspy and aiotus: they upload, are cut off, go on, and what arrives is what was sent. curl does it by hand."""

import asyncio
import io
import re
import subprocess
from hashlib import shake_128
from urllib.parse import urljoin, urlsplit

import pytest

from .breaking import BreakingProxy

CONTENT = shake_128(__name__.encode()).digest(3_000_000)
CUTS = [700_000, 1_600_000]
QUICK_ATTEMPTS = 50
CHUNK = 512 << 10


@pytest.fixture(scope="module")
def server(start_uploads):
    return start_uploads("")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "f.bin"
    path.write_bytes(CONTENT)
    return path


def download(server, url):
    return server.plain.download(urljoin(server.url, urlsplit(str(url)).path))


# tuspy


@pytest.fixture
def tuspy(missing):
    """``tuspy(url, token)`` returns a client."""
    try:
        from tusclient.client import TusClient  # noqa: PLC0415 - skipped where it is not there
    except ImportError:
        missing("tuspy")
    return lambda url, token: TusClient(f"{url}/uploads", headers={"Authorization": f"Bearer {token}"})


def test_tuspy_uploads_with_checksums(tuspy, server):
    uploader = tuspy(server.url, server.token).uploader(
        file_stream=io.BytesIO(CONTENT), chunk_size=512 << 10, metadata={"filename": "größe.bin"}, upload_checksum=True
    )

    uploader.upload()

    assert download(server, uploader.url) == CONTENT
    assert server.plain.look(uploader.url)["name"] == "größe.bin"


def test_tuspy_that_stopped_goes_on_as_a_new_client(tuspy, server):
    first = tuspy(server.url, server.token).uploader(
        file_stream=io.BytesIO(CONTENT), chunk_size=512 << 10, upload_checksum=True
    )
    first.upload(stop_at=1 << 20)

    second = tuspy(server.url, server.token).uploader(file_stream=io.BytesIO(CONTENT), url=first.url, chunk_size=1 << 20)
    assert second.offset == 1 << 20
    second.upload()

    assert download(server, first.url) == CONTENT


def test_tuspy_uploads_an_empty_file(tuspy, server):
    uploader = tuspy(server.url, server.token).uploader(file_stream=io.BytesIO())

    uploader.upload()

    assert download(server, uploader.url) == b""


def test_tuspy_that_is_cut_off_goes_on(tuspy, server):
    with BreakingProxy(CUTS) as proxy:
        proxy.target = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        uploader = tuspy(proxy.url, server.token).uploader(
            file_stream=io.BytesIO(CONTENT), retries=QUICK_ATTEMPTS, retry_delay=0.1
        )
        uploader.upload()

    assert proxy.cut == len(CUTS)
    assert download(server, uploader.url) == CONTENT


# aiotus: takes absolute locations alone


@pytest.fixture
def aiotus(missing):
    try:
        import aiotus as module  # noqa: PLC0415 - skipped where it is not there
    except ImportError:
        missing("aiotus")
    return module


@pytest.fixture
def located(start_uploads, free_port):
    """A server that knows under which URL it is reached."""
    port = free_port()
    return start_uploads(f'[server]\npublic_url = "http://127.0.0.1:{port}"\n', "--port", port)


def test_aiotus_uploads(aiotus, located, file):
    headers = {"Authorization": f"Bearer {located.token}"}

    async def run():
        with file.open("rb") as source:
            url = await aiotus.upload(
                f"{located.url}/uploads", source, {"filename": b"a.bin"}, headers=headers, chunksize=1 << 20
            )
        return url, await aiotus.metadata(url, headers=headers)

    url, metadata = asyncio.run(run())

    assert download(located, url) == CONTENT
    assert metadata == {"filename": b"a.bin"}


def test_aiotus_concatenates(aiotus, located):
    headers = {"Authorization": f"Bearer {located.token}"}
    parts = [io.BytesIO(CONTENT[start : start + 1_000_000]) for start in range(0, len(CONTENT), 1_000_000)]

    url = asyncio.run(
        aiotus.upload_multiple(f"{located.url}/uploads", parts, {"filename": b"a.bin"}, headers=headers, chunksize=CHUNK)
    )

    assert download(located, url) == CONTENT


def test_aiotus_that_is_cut_off_goes_on(aiotus, start_uploads, file):
    with BreakingProxy(CUTS) as proxy:
        server = start_uploads(f'[server]\npublic_url = "{proxy.url}"\n')
        proxy.target = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        config = aiotus.RetryConfiguration(retry_attempts=QUICK_ATTEMPTS, max_retry_period_seconds=0.1)
        headers = {"Authorization": f"Bearer {server.token}"}

        async def run():
            with file.open("rb") as source:
                return await aiotus.upload(f"{proxy.url}/uploads", source, config=config, headers=headers, chunksize=CHUNK)

        url = asyncio.run(run())

    assert proxy.cut == len(CUTS)
    assert download(server, url) == CONTENT


# curl, by hand


@pytest.fixture
def curl(require, server):
    """``curl(*arguments)`` returns the answer, interim ones too, and the exit code; the token is sent."""
    program = require("curl")

    def run(*arguments, content=b"", limit_s=30):
        token = ["-H", f"Authorization: Bearer {server.token}"]
        command = [program, "-sS", "-i", "--http1.1", "--max-time", str(limit_s), *token, *map(str, arguments)]
        done = subprocess.run(command, check=False, input=content, capture_output=True, timeout=60)
        return done.stdout.decode(errors="replace"), done.returncode

    return run


TUS = ["-H", "Tus-Resumable: 1.0.0"]
PIECE = [*TUS, "-H", "Content-Type: application/offset+octet-stream"]


def test_curl_by_hand_creates_is_cut_off_asks_and_goes_on(curl, server, file):
    head, _ = curl("-X", "POST", f"{server.url}/uploads", *TUS, "-H", f"Upload-Length: {len(CONTENT)}")
    url = urljoin(server.url, re.search(r"(?im)^location: (\S+)", head)[1])

    _, code = curl(*("-X", "PATCH", url, "-H", "Upload-Offset: 0", *PIECE, "-T", file, "--limit-rate", "400K"), limit_s=4)
    assert code == 28  # the time was up
    head, _ = curl("-I", url, *TUS)
    offset = int(re.search(r"(?im)^upload-offset: (\d+)", head)[1])
    assert 0 < offset < len(CONTENT)
    head, _ = curl(
        *("-X", "PATCH", url, "-H", f"Upload-Offset: {offset}", *PIECE, "-T", "-", "-H", "Expect: 100-continue"),
        content=CONTENT[offset:],
    )

    assert re.findall(r"HTTP/1.1 (\d+)", head) == ["100", "204"]
    assert download(server, url) == CONTENT


def test_curl_shows_104_100_and_201_of_a_resumable_upload(curl, server, file):
    head, _ = curl(
        *(f"{server.url}/uploads?name=f.bin", "-H", "Upload-Draft-Interop-Version: 6"),
        *("-H", "Upload-Complete: ?1", "-H", "Expect: 100-continue", "--data-binary", f"@{file}"),
    )

    assert re.findall(r"HTTP/1.1 (\d+)", head) == ["104", "100", "201"]
    assert download(server, re.findall(r"(?im)^location: (\S+)", head)[-1]) == CONTENT
