"""What is wrong with a JSON body, in words that name the key, the mistake and the remedy."""

from __future__ import annotations

import msgspec
import pytest

from assetserver.access.grants import GrantRequest
from assetserver.complaints import explain
from assetserver.remote.endpoint import Activation
from assetserver.remote.submission import Submission

DIGEST = "a" * 64


def complaint(content, shape):
    with pytest.raises((msgspec.MsgspecError, UnicodeError, RecursionError)) as caught:
        msgspec.json.decode(content, type=shape)
    return explain(caught.value, shape)


@pytest.mark.parametrize(
    ("content", "shape", "words"),
    [
        ('{"maxsize": 1}', GrantRequest, 'unknown key "maxsize"; did you mean "max_size"?'),
        ('{"zz": 1}', Activation, 'unknown key "zz"; known: "id", "if_active", "site"'),
        ('{"types": ["image"]}', GrantRequest, 'types[0] must be a media type in lower case, such as "image/png" or "image/*"'),
        ('{"max_size": "1"}', GrantRequest, "max_size must be an integer or null, not a string"),
        ('{"max_size": -1}', GrantRequest, "max_size must be at least 0"),
        ('{"lifetime_s": 0}', GrantRequest, "lifetime_s must be more than 0"),
        ('{"lifetime_s": 1e9}', GrantRequest, "lifetime_s must be at most 604800"),
        ("[]", GrantRequest, "it must be an object, not an array"),
        ("{", GrantRequest, "it is no JSON: its end is missing"),
        ("{'a': 1}", GrantRequest, "it is no JSON: object keys must be strings (byte 1)"),
        ("{}", Activation, '"id" is missing'),
        ('{"id": ""}', Activation, "id must have at least 1 character"),
        ('{"files": {"a": {"sha256": "xx"}}}', Submission, "sha256 must be 64 hexadecimal digits, in lower case"),
        ('{"files": {"a": {"sha": "xx"}}}', Submission, 'unknown key "sha"; did you mean "sha256"?'),
        (f'{{"files": {{"a": {{"sha256": "{DIGEST}"}}}}}}', Submission, '"size" is missing'),
        ('{"files": {"a": "b"}}', Submission, "each of files must be an object, not a string"),
        ('{"files": {}, "left_out": [1]}', Submission, "left_out[0] must be a string, not an integer"),
        (b'{"files": {"\xff": 1}}', Submission, "it is not UTF-8"),
        ("[" * 100_000, Submission, "it must be an object, not an array"),
    ],
)
def test_it_says_which_key_and_what_it_must_be(content, shape, words):
    assert complaint(content, shape) == words


def test_a_key_of_a_stranger_is_cut():
    assert len(complaint('{"' + "x" * 10_000 + '": 1}', GrantRequest)) < 300
