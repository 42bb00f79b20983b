"""Signatures as Standard Webhooks has them: its own example, and what is no secret."""

import pytest

from assetserver.webhooks.signing import parse_secret, sign_fields

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - it is published


def test_the_example_of_the_specification_is_signed_as_there():
    fields = sign_fields([parse_secret(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert fields == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_every_secret_signs():
    signature = sign_fields([parse_secret(SECRET), b"x" * 24], "a", 1, b"")["webhook-signature"]
    first, second = signature.split(" ")
    assert first.startswith("v1,")
    assert second.startswith("v1,")
    assert first != second


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begin"),
        ("whsec_!", "base64"),
        ("whsec_AAAA", "3 bytes"),
        ("whsec_" + "A" * 88, "66 bytes"),
    ],
)
def test_what_is_no_secret_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_secret(text)
