"""What the parser lets through and is refused all the same; raw requests are in tests/conformance/test_probes.py."""

import pytest

from assetserver.semantics.framing import find_refusal

HOST = (b"host", b"a.test")


@pytest.mark.parametrize(("version", "status"), [("1.0", 0), ("1.1", 0), ("0.9", 400), ("1.2", 400), ("2.0", 400)])
def test_two_versions_are_known(version, status):
    assert find_refusal(version, b"/", [HOST]) == status


@pytest.mark.parametrize(
    ("version", "value", "status"),
    [
        ("1.1", b"chunked", 0),
        ("1.1", b" Chunked\t", 0),
        ("1.0", b"chunked", 400),
        ("1.1", b"gzip, chunked", 400),
        ("1.1", b"chunked, chunked", 400),
        ("1.1", b"identity", 400),
        ("1.1", b"", 400),
    ],
)
def test_bodies_come_in_chunks_and_in_no_other_coding(version, value, status):
    assert find_refusal(version, b"/", [HOST, (b"transfer-encoding", value)]) == status


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://a.test/", b"a.test", 0),
        (b"HTTP://A.test:80/x?y", b"a.TEST", 0),
        (b"https://a.test", b"a.test:443", 0),
        (b"http://a.test?x", b"a.test:", 0),
        (b"http://a.test:8080/", b"a.test:8080", 0),
        (b"http://[::1]:8080/", b"[::1]:8080", 0),
        (b"/a?b=http://evil.test/", b"a.test", 0),
        (b"*", b"a.test", 0),
        (b"http://evil.test/", b"a.test", 400),
        (b"http://a.test:8080/", b"a.test", 400),
        (b"http://a.test@evil.test/", b"a.test", 400),
        (b"http://evil.test@a.test/", b"a.test", 400),
        (b"ftp://a.test/", b"a.test", 400),
        (b"http:///x", b"", 400),
        (b"x://", b"a.test", 400),
    ],
)
def test_a_target_names_no_other_host(target, host, status):
    assert find_refusal("1.1", target, [(b"host", host)]) == status


def test_without_host_there_is_nothing_to_disagree_with():
    assert find_refusal("1.0", b"http://a.test/", []) == 0


@pytest.mark.parametrize(("value", "status"), [(b"100-continue", 0), (b"100-Continue ", 0), (b"200-maybe", 417), (b"", 417)])
def test_one_expectation_can_be_met(value, status):
    assert find_refusal("1.1", b"/", [(b"expect", value), HOST]) == status
    assert find_refusal("1.1", b"/", [(b"expect", value), (b"transfer-encoding", b"gzip"), HOST]) == 400
