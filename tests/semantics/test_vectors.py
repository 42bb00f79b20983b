"""Every row of ``tests/vectors/*.toml`` against ``respond``, and every trap of the list against the rows.

A row: ``name``; ``trap``, the numbers of the traps that it springs; ``request``, field values by name, and ``method``;
``asset``, each key with a default: ``length``, ``codings`` (lengths by name), ``age_s`` of its last change, ``dated``,
``negotiable``, ``hashed``, ``delta`` (its length: with it, the asset takes deltas), ``allowed_origin``; ``strict``. Then what
is wanted: ``status``; ``fields`` and ``absent``; ``coding`` of the representation that ``body`` counts in; ``body``,
half-open ranges: one is sent plain, several as multipart, none is no content.
"""

import re
import tomllib
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.semantics.dates import format_date
from assetserver.semantics.dictionaries import format_available_dictionary
from assetserver.semantics.representation import ContentCoding
from assetserver.semantics.respond import Parts

from .samples import CODED_LENGTHS, NOW, ask, make_content, make_contents, make_delta, make_responses, read_body, read_fields

VECTORS = Path(__file__).parents[1] / "vectors"
ELSEWHERE = "elsewhere.toml"
TRAPS = range(1, 41)
KEYS = {"name", "trap", "request", "asset", "strict", "status", "fields", "absent", "coding", "body"}
ASSET_KEYS = {"length", "codings", "age_s", "dated", "negotiable", "hashed", "delta", "allowed_origin"}
DICTIONARY = format_available_dictionary(sha256(b"what the client has").digest())


def read_cases():
    for file in sorted(VECTORS.glob("*.toml")):
        if file.name != ELSEWHERE:
            yield from tomllib.loads(file.read_text("utf-8")).get("case", ())


CASES = list(read_cases())


def make_words(contents, last_modified, *, hashed):
    """Return what the words in braces stand for."""
    words = {
        "now": format_date(NOW),
        "last-modified": format_date(last_modified),
        "a second before last-modified": format_date(last_modified - 1),
        "a second after last-modified": format_date(last_modified + 1),
        "dictionary": DICTIONARY,
        "hundred and one": ",".join(f"{n * 2}-{n * 2}" for n in range(101)),
    }
    for coding, content in contents.items() if hashed else ():
        suffix = "" if coding is ContentCoding.IDENTITY else f":{coding.value}"
        digest = sha256(content)
        words[f"bare etag{suffix}"] = digest.hexdigest()[:32]
        words[f"etag{suffix}"] = f'"{digest.hexdigest()[:32]}"'
        words[f"repr-digest{suffix}"] = f"sha-256=:{b64encode(digest.digest()).decode()}:"
    return words


def fill_in(values, words):
    return {name: re.sub(r"\{([^}]+)\}", lambda word: words[word[1]], text) for name, text in values.items()}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case):
    assert case.keys() <= KEYS
    asset = case.get("asset", {})
    assert asset.keys() <= ASSET_KEYS
    contents = make_contents(asset.get("length", 11), asset.get("codings", CODED_LENGTHS))
    last_modified = NOW - asset.get("age_s", 86_400)
    hashed = asset.get("hashed", True)
    responses = make_responses(
        contents,
        last_modified=last_modified if asset.get("dated", True) else None,
        negotiable=asset.get("negotiable", True),
        hashed=hashed,
        takes_deltas="delta" in asset,
        allowed_origin=asset.get("allowed_origin", ""),
    )
    delta = None
    if "delta" in asset:
        contents[ContentCoding.DCZ] = make_content(asset["delta"], "dcz")
        delta = make_delta(contents[ContentCoding.DCZ])
    words = make_words(contents, last_modified, hashed=hashed)

    plan = ask(responses, fill_in(case["request"], words), strict=case.get("strict", False), delta=delta)

    fields = read_fields(plan)
    assert plan.status == case["status"]
    wanted = fill_in(case.get("fields", {}), words)
    assert {name: fields.get(name) for name in wanted} == wanted
    assert [name for name in case.get("absent", ()) if name in fields] == []
    assert plan.representation.coding is ContentCoding(case.get("coding", "identity"))
    content = contents[plan.representation.coding]
    slices = [content[start:stop] for start, stop in case.get("body", ())]
    if isinstance(plan.body, Parts):
        assert [content[found.start : found.stop] for _, found in plan.body.parts] == slices
    else:
        assert len(slices) < 2
        assert read_body(plan, contents) == b"".join(slices)


def test_every_vector_has_a_name_of_its_own():
    names = [case["name"] for case in CASES]

    assert sorted(set(names)) == sorted(names)


def test_every_trap_is_sprung_by_a_vector_or_covered_by_a_test_file_that_exists():
    elsewhere = tomllib.loads((VECTORS / ELSEWHERE).read_text("utf-8"))["trap"]
    by_vector = {number for case in CASES for number in case.get("trap", ())}
    by_file = {row["number"] for row in elsewhere}

    assert sorted(set(TRAPS) - by_vector - by_file) == []
    assert sorted((by_vector | by_file) - set(TRAPS)) == []
    root = VECTORS.parents[1]
    assert [row["file"] for row in elsewhere if not (root / row["file"]).is_file()] == []
    assert [row["number"] for row in elsewhere if not row["how"]] == []
