"""tus-js-client under node: every mode uploads, is cut off, goes on, and what arrives is what was sent."""

import json
import shutil
import subprocess
from hashlib import shake_128
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from .breaking import BreakingProxy

PACKAGE = "tus-js-client@4.3.1"
SCRIPT = Path(__file__).parent / "tus_client.mjs"
CONTENT = shake_128(__name__.encode()).digest(3_000_000)
CUTS = [700_000, 1_600_000]
STREAMED = "deferred"
MODES = [
    *("plain", "chunked", "creation", "creation-chunked", "parallel", STREAMED, "override"),
    *("ietf-draft-03", "ietf-draft-05", "ietf-draft-05-creation"),
]


@pytest.fixture(scope="session")
def node(require, install_npm):
    """``node(**job)`` runs the script and returns what it prints."""
    program, folder = require("node"), install_npm(PACKAGE)
    shutil.copy(SCRIPT, folder)

    def run(**job):
        command = [program, str(folder / SCRIPT.name), json.dumps(job)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def server(start_uploads):
    return start_uploads("")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "f.bin"
    path.write_bytes(CONTENT)
    return str(path)


@pytest.fixture
def proxy(server):
    """``proxy(cuts)`` returns a proxy to the server that breaks."""
    started = []

    def start(cuts):
        proxy = BreakingProxy(cuts)
        proxy.target = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        started.append(proxy.__enter__())
        return proxy

    yield start
    for one in started:
        one.__exit__()


def download(server, url):
    return server.plain.download(urljoin(server.url, urlsplit(url).path))


@pytest.mark.parametrize("mode", MODES)
def test_upload_arrives(node, server, file, mode):
    result = node(endpoint=f"{server.url}/uploads", token=server.token, mode=mode, file=file)

    assert download(server, result["url"]) == CONTENT


@pytest.mark.parametrize("mode", [mode for mode in MODES if "creation" not in mode])
def test_upload_that_is_cut_off_twice_goes_on(node, server, file, proxy, mode):
    broken = proxy(CUTS)

    result = node(endpoint=f"{broken.url}/uploads", token=server.token, mode=mode, file=file)

    assert broken.cut == len(CUTS)
    assert download(server, result["url"]) == CONTENT


@pytest.mark.parametrize("mode", ["plain", "chunked", "override", "ietf-draft-05"])
def test_upload_that_was_stopped_goes_on_at_another_visit(node, server, file, mode):
    result = node(endpoint=f"{server.url}/uploads", token=server.token, mode=mode, file=file, abortAt=1_000_000)

    assert download(server, result["url"]) == CONTENT


@pytest.mark.parametrize("mode", ["plain", "creation", "ietf-draft-05"])
def test_empty_file_arrives(node, server, tmp_path, mode):
    (tmp_path / "empty").touch()

    result = node(endpoint=f"{server.url}/uploads", token=server.token, mode=mode, file=str(tmp_path / "empty"))

    assert server.plain.ask("GET", urljoin(server.url, result["url"])).status == 200


def test_last_answer_tells_where_the_file_is(node, server, file):
    result = node(endpoint=f"{server.url}/uploads", token=server.token, mode="plain", file=file)

    assert server.plain.ask("GET", result["place"], authorization=None).content == CONTENT
