"""curl and httpx upload as people use them."""

import json
import subprocess
from base64 import b64encode
from hashlib import sha256

import httpx
import pytest

LIMIT_S = 60


@pytest.fixture(scope="module")
def content():
    return bytes(range(256)) * 20_000  # 5 MB: many pieces, and more than any buffer


@pytest.fixture
def curl(require, client, tmp_path, content):
    """``curl(*arguments)`` returns its output, with a file ``f.bin`` in the working directory."""
    program = require("curl")
    (tmp_path / "f.bin").write_bytes(content)

    def run(*arguments):
        command = [program, "-sS", "--fail-with-body", "-H", f"Authorization: Bearer {client.token}", *arguments]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    return run


def digest_field(content):
    return f"Repr-Digest: sha-256=:{b64encode(sha256(content).digest()).decode()}:"


def test_curl_sends_a_form(client, curl, content):
    upload = json.loads(curl("-F", "title=A file", "-F", "file=@f.bin;filename=naïve.bin", f"{client.url}/uploads"))["uploads"][
        0
    ]

    assert (upload["name"], upload["sha256"]) == ("naïve.bin", sha256(content).hexdigest())
    assert client.send("GET", upload["url"]).content == content


def test_curl_sends_a_file_as_it_is(client, curl, content):
    upload = json.loads(curl("--data-binary", "@f.bin", "-H", digest_field(content), f"{client.url}/uploads?name=f.bin"))[
        "uploads"
    ][0]

    assert (upload["size"], upload["sha256"]) == (len(content), sha256(content).hexdigest())


@pytest.mark.parametrize(
    "options", [[], ["-H", "Expect: 100-continue"], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]]
)
def test_curl_puts_a_file_by_name(client, curl, content, options):
    curl("-T", "f.bin", *options, f"{client.url}/uploads/by-name/")

    assert curl(f"{client.url}/media/by-name/f.bin") == content


def test_curl_waits_for_100_and_is_refused_without_sending(client, curl, tmp_path):
    wrong = f"Repr-Digest: sha-256=:{b64encode(bytes(31)).decode()}:"
    command = ["curl", "-sS", "-v", "-H", f"Authorization: Bearer {client.token}", "-H", wrong, "-T", "f.bin"]
    done = subprocess.run(
        [*command, "-H", "Expect: 100-continue", f"{client.url}/uploads/by-name/f.bin"],
        capture_output=True,
        cwd=tmp_path,
        timeout=LIMIT_S,
        check=True,
        text=True,
    )

    assert "HTTP/1.1 400" in done.stderr
    assert "100 Continue" not in done.stderr
    assert json.loads(done.stdout)["type"].endswith("bad-request")


def test_curl_is_told_why_without_a_token(client, require, tmp_path):
    (tmp_path / "f.bin").write_bytes(bytes(4 << 20))
    command = [require("curl"), "-sS", "-F", "file=@f.bin", f"{client.url}/uploads"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=LIMIT_S, check=True)

    assert json.loads(done.stdout)["status"] == 401


def test_httpx_sends_forms_and_streams(client, content):
    with httpx.Client(base_url=client.url, headers={"Authorization": f"Bearer {client.token}"}, timeout=LIMIT_S) as session:
        form = session.post("/uploads", files=[("f", ("a.bin", content)), ("f", ("b.bin", b"x"))], data={"title": "t"})
        stream = session.post(
            "/uploads", params={"name": "c.bin"}, content=(content[at : at + 999] for at in range(0, 99_900, 999))
        )
        listed = session.get("/uploads", params={"limit": 3})
        served = session.get(form.json()["uploads"][0]["url"])

    assert [one["size"] for one in form.json()["uploads"]] == [len(content), 1]
    assert stream.json()["uploads"][0]["sha256"] == sha256(content[:99_900]).hexdigest()
    assert len(listed.json()["uploads"]) == 3
    assert served.content == content


def test_httpx_is_told_of_a_wrong_digest(client):
    fields = {"Authorization": f"Bearer {client.token}", "Content-Digest": digest_field(b"other").partition(": ")[2]}

    answer = httpx.put(f"{client.url}/uploads/by-name/wrong.bin", content=b"content", headers=fields, timeout=LIMIT_S)

    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:assetserver:problem:checksum-mismatch"
    assert httpx.get(f"{client.url}/media/by-name/wrong.bin", timeout=LIMIT_S).status_code == 404
