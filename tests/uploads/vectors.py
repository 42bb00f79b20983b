"""Fields of resumable uploads without a server: rows of ``tests/vectors``, the requests that they stand for, and an upload."""

import re
import tomllib
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from assetserver.errors import AssetServerError
from assetserver.uploads.records import Upload

VECTORS = Path(__file__).parents[1] / "vectors"
WORDS = {
    "5000 digits": "9" * 5000,
    "5000 letters": "A" * 5000,
    "32 keys": ",".join(f"k{number} YQ==" for number in range(32)),
    "33 keys": ",".join(f"k{number} YQ==" for number in range(33)),
    "1001 parts": " ".join(["/uploads/a"] * 1001),
}
UPLOAD = Upload(
    id="a" * 22,
    state="uploading",
    name="a.txt",
    collection="",
    owner="o",
    size=100,
    offset=70,
    sha256="",
    media_type="text/plain",
    metadata={},
    kind="tus",
    created=0.0,
    expires=None,
)


def read_cases(name):
    """Return the rows of a file of vectors, whose table has its name; each row has a name of its own."""
    cases = tomllib.loads((VECTORS / f"{name}.toml").read_text("utf-8"))[name]
    assert len({case["name"] for case in cases}) == len(cases)
    return cases


def make_headers(fields):
    """Return the fields of a request: a list stands for several lines, words in braces for something long."""
    lines = []
    for name, value in fields.items():
        for line in value if isinstance(value, list) else [value]:
            text = re.sub(r"\{([^}]+)\}", lambda word: WORDS[word[1]], line)
            lines.append((name.encode(), text.encode("latin-1").strip()))
    return Headers(raw=lines)


def check_case(case, parse):
    """Check that ``parse(case)``, what a request asks for by name, is what the row wants, or that it is refused as it says."""
    if "error" in case:
        status, words = case["error"]
        with pytest.raises(AssetServerError) as caught:
            parse(case)
        assert caught.value.status == status
        assert words in str(caught.value)
        return
    found = {name: "none" if value is None else value for name, value in parse(case).items()}
    assert {name: found[name] for name in case["wanted"]} == case["wanted"]


def find_refusal(parse, fields):
    """Return the error that ``parse`` has for fields, pairs of text, or None if it reads them."""
    try:
        parse(Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in fields]))
    except AssetServerError as error:
        return error
    return None
