"""What holds for every request, whatever a client sends: Hypothesis looks for the one that it does not hold for."""

import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from assetserver.semantics.caching import compile_glob
from assetserver.semantics.dates import format_date, parse_date
from assetserver.semantics.fields import parse_integer_dictionary, parse_list, parse_weighted_list
from assetserver.semantics.ranges import ByteRange, RangeOutcome, coalesce_ranges, select_ranges
from assetserver.semantics.representation import ContentCoding
from assetserver.semantics.respond import NoBody, Parts, Slice, Whole
from assetserver.semantics.targets import RefusedTarget, Target, parse_target

from .samples import NOW, ask, make_contents, make_responses, read_body, read_fields

bounded = settings(max_examples=200, deadline=None)

CONTENTS = make_contents(300, {"gzip": 120, "br": 90, "zstd": 100})
RESPONSES = make_responses(CONTENTS)
IDENTITY = CONTENTS[ContentCoding.IDENTITY]
ETAG = read_fields(ask(RESPONSES, {}))["etag"]
DATE = format_date(NOW - 86_400)

VALID = {
    "accept-encoding": ["gzip, deflate, br, zstd", "br;q=0.1, gzip;q=1.0, *;q=0", "identity;q=0, *", "x-gzip"],
    "if-match": [ETAG, "*", f'"a,b", {ETAG}'],
    "if-none-match": [ETAG, f"W/{ETAG}", "*", f'"a\\", {ETAG}'],
    "if-modified-since": [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    "if-unmodified-since": [DATE, "Sat, 31 Dec 2016 23:59:60 GMT"],
    "range": ["bytes=0-0", "bytes=0-9,50-59,-1", "bytes=-5", "bytes=9-", "bytes=0-18446744073709551616"],
    "if-range": [ETAG, f"W/{ETAG}", DATE],
    "want-repr-digest": ["sha-256=1", "sha-256=10, sha-512=0"],
}

latin_1 = st.characters(max_codepoint=255)
noise = st.one_of(
    st.text(latin_1, max_size=40),
    st.text(st.sampled_from('"\\,;=-*W/ \tbytesgzipq0159.'), max_size=40),
    st.integers(0, 10**40).map(str),
    st.integers(1, 5000).map(lambda count: "9" * count),
    st.integers(1, 200).map(lambda count: '"\\' * count),
    st.sampled_from(["\x00", "\r\n", "\n", "\xa0", "\xb2", "\xff", '"', "\\", "," * 20_000, "-" * 3000, "(" * 3000]),
)


@st.composite
def mutate(draw, values):
    """A valid value with a piece of it replaced by noise."""
    text = draw(st.sampled_from(values))
    start = draw(st.integers(0, len(text)))
    stop = draw(st.integers(start, min(len(text), start + 4)))
    return text[:start] + draw(noise) + text[stop:]


def any_value(name):
    return st.one_of(st.sampled_from(VALID[name]), mutate(VALID[name]), noise)


any_fields = st.fixed_dictionaries({}, optional={name: any_value(name) for name in VALID})
methods = st.sampled_from(["GET", "HEAD"])

positions = st.integers(0, 330)
members = st.one_of(
    st.tuples(positions, positions).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    positions.map(lambda first: f"{first}-"),
    positions.map(lambda count: f"-{count}"),
)
range_sets = st.lists(members, min_size=1, max_size=12).map(lambda some: "bytes=" + ", ".join(some))
byte_ranges = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda pair: ByteRange(pair[0], pair[0] + pair[1]))


def read_parts(content_type, body):
    """Return ``(fields, content)`` of each part of a multipart body, read as RFC 2046 §5.1.1 writes the grammar."""
    delimiter = b"--" + re.fullmatch(r"multipart/byteranges; boundary=([0-9A-Za-z]{1,70})", content_type)[1].encode()
    preamble, *pieces, epilogue = (b"\r\n" + body).split(b"\r\n" + delimiter)
    assert preamble == b""
    assert epilogue == b"--\r\n"
    for piece in pieces:
        head, _, content = piece.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        assert start == b""
        yield dict(line.decode("ascii").split(": ", 1) for line in lines), content


def read_content_range(text, length):
    first, last, complete = map(int, re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)", text).groups())
    assert complete == length
    assert first <= last < length
    return first, last + 1


@bounded
@given(any_fields, methods, st.booleans())
@example({"range": "bytes=" + "9" * 4000 + "-" + "9" * 4000}, "GET", False)  # noqa: FBT003
@example({"if-none-match": '"' * 16_000}, "GET", False)  # noqa: FBT003
def test_no_field_value_makes_the_answer_raise_or_contradict_itself(fields, method, strict):
    plan = ask(RESPONSES, {"method": method, **fields}, strict=strict)

    answer = read_fields(plan)
    assert plan.status in {200, 206, 304, 406, 412, 416}
    assert all(name == name.lower() for name in answer)
    assert not any(re.search(r"[\x00-\x1f\x7f]", value) for value in answer.values())
    body = read_body(plan, CONTENTS)
    if plan.status == 304:
        assert "content-length" not in answer
        assert body == b""
    elif method == "GET":
        assert int(answer["content-length"]) == len(body)
    else:
        assert isinstance(plan.body, NoBody)


@bounded
@given(st.one_of(noise, st.text()))
def test_every_parser_takes_any_text(text):
    list(parse_list(text))
    list(parse_weighted_list(text))
    parse_integer_dictionary(text)
    parse_date(text, now=NOW)


@bounded
@given(range_sets, st.sampled_from(["", "gzip", "br", "zstd"]))
def test_body_is_exactly_the_bytes_that_content_range_states(ranges, accept_encoding):
    plan = ask(RESPONSES, {"range": ranges, "accept-encoding": accept_encoding})

    fields, content = read_fields(plan), CONTENTS[RESPONSES.select(accept_encoding).coding]
    body = read_body(plan, CONTENTS)
    assert int(fields["content-length"]) == len(body)
    match plan.body:
        case Whole():
            assert plan.status == 200
            assert "content-range" not in fields
        case Slice():
            assert plan.status == 206
            start, stop = read_content_range(fields["content-range"], len(content))
            assert body == content[start:stop]
        case Parts():
            assert plan.status == 206
            assert "content-range" not in fields
            for part, piece in read_parts(fields["content-type"], body):
                start, stop = read_content_range(part["content-range"], len(content))
                assert part["content-type"] == "text/plain; charset=utf-8"
                assert piece == content[start:stop]
        case NoBody():
            assert plan.status == 416
            assert fields["content-range"] == f"bytes */{len(content)}"


@bounded
@given(st.lists(st.integers(1, 120), min_size=1, max_size=30), st.sampled_from(["", "gzip"]))
def test_pieces_of_a_download_make_up_the_file(steps, accept_encoding):
    whole = ask(RESPONSES, {"accept-encoding": accept_encoding})
    content = CONTENTS[whole.representation.coding]
    received = b""
    for step in [*steps, len(content)]:
        if len(received) == len(content):
            break
        wanted = f"bytes={len(received)}-{len(received) + step - 1}"
        plan = ask(
            RESPONSES,
            {"range": wanted, "if-range": read_fields(whole)["etag"], "accept-encoding": accept_encoding},
        )
        assert plan.status == 206
        start, stop = read_content_range(read_fields(plan)["content-range"], len(content))
        assert start == len(received)
        received += read_body(plan, CONTENTS)
        assert len(received) == stop

    assert received == content


@bounded
@given(range_sets)
def test_parts_cover_what_was_asked_for_in_the_order_of_the_request(ranges):
    asked = [_resolve(member, len(IDENTITY)) for member in ranges.removeprefix("bytes=").split(", ")]
    asked = [positions for positions in asked if positions]
    found = select_ranges(ranges, len(IDENTITY))
    assume(not isinstance(found, RangeOutcome))

    assert {n for one in found for n in range(one.start, one.stop)} == set().union(*asked)
    firsts = [next(i for i, positions in enumerate(asked) if positions & set(range(one.start, one.stop))) for one in found]
    assert firsts == sorted(set(firsts))


def _resolve(member, length):
    """Return the positions that a member asks for, the slow and obvious way."""
    first, _, last = member.partition("-")
    if not first:
        return set(range(length)[-int(last) :]) if int(last) else set()
    return set(range(length)[int(first) : int(last) + 1 if last else None])


@bounded
@given(st.lists(byte_ranges, min_size=1, max_size=20))
def test_coalesced_ranges_never_overlap_and_cover_exactly_the_union(ranges):
    joined = coalesce_ranges(ranges)

    covered = [position for one in joined for position in range(one.start, one.stop)]
    assert len(covered) == len(set(covered))
    assert set(covered) == {position for one in ranges for position in range(one.start, one.stop)}
    assert all(len(one) > 0 for one in joined)


@bounded
@given(
    any_value("accept-encoding"),
    st.one_of(
        st.fixed_dictionaries({"range": range_sets}),
        st.sampled_from([{"if-none-match": "*"}, {"if-modified-since": DATE}, {"range": "bytes=0-", "if-range": DATE}]),
    ),
)
def test_partial_and_unmodified_answers_carry_the_validators_and_policy_of_the_whole(accept_encoding, fields):
    whole = read_fields(ask(RESPONSES, {"accept-encoding": accept_encoding}))

    plan = ask(RESPONSES, {"accept-encoding": accept_encoding, **fields})

    answer = read_fields(plan)
    assert plan.status in {200, 206, 304, 416}
    if plan.status != 416:
        for name in ("etag", "vary", "cache-control", "x-content-type-options"):
            assert answer[name] == whole[name]
    if plan.status == 206:
        assert answer["last-modified"] == whole["last-modified"]
        assert answer.get("content-encoding") == whole.get("content-encoding")
    if plan.status == 304:
        assert not {"content-encoding", "content-type", "content-length", "content-range"} & answer.keys()


@bounded
@given(any_fields)
def test_head_has_the_fields_of_get_without_its_range(fields):
    rangeless = {name: value for name, value in fields.items() if name != "range"}

    head, get = ask(RESPONSES, {"method": "HEAD", **fields}), ask(RESPONSES, rangeless)

    assert (head.status, head.fields) == (get.status, get.fields)
    assert isinstance(head.body, NoBody)


@bounded
@given(st.lists(st.sampled_from(["", *(coding.value for coding in ContentCoding)]), unique=True, min_size=2))
def test_one_tag_belongs_to_one_coding_and_one_coding_to_one_tag(accepted):
    seen = {
        (plan.representation.coding, read_fields(plan)["etag"])
        for plan in (ask(RESPONSES, {"accept-encoding": text}) for text in accepted)
    }

    assert len({coding for coding, _ in seen}) == len({tag for _, tag in seen}) == len(seen)


@bounded
@given(any_value("accept-encoding"))
def test_a_coding_that_the_client_did_not_allow_is_never_sent(accept_encoding):
    chosen = ask(RESPONSES, {"accept-encoding": accept_encoding}).representation.coding

    if chosen is not ContentCoding.IDENTITY:
        allowed = {token: weight for token, weight in parse_weighted_list(accept_encoding) if weight}
        assert allowed.keys() & {chosen.value, "*", f"x-{chosen.value}"}


@bounded
@given(
    st.one_of(
        st.text(st.sampled_from("/.%2eEfF5cC~a b\\\x00é?"), max_size=30).map(lambda text: "/" + text),
        st.text(max_size=30).map(lambda text: "/" + text),
        st.text(max_size=5),
        st.sampled_from(["/" + '"' * 4000, "/" + "a/" * 3000, "/" + "é" * 1500, "/" + "/" * 4000 + "a"]),
    )
)
def test_canonical_path_is_its_own_canonical_path_and_holds_nothing_dangerous(raw):
    target = parse_target(raw)
    if isinstance(target, RefusedTarget):
        assert target.reason
        return

    assert parse_target(target.canonical) == target
    assert target.canonical.isascii()
    assert target.canonical.startswith("/")
    assert not target.canonical.startswith("//")
    assert not target.path.startswith("/")
    segments = target.path.removesuffix("/").split("/") if target.path else []
    assert not {"", ".", ".."} & set(segments)
    assert not re.search(r"[\x00-\x1f\x7f\\]", target.path)


@bounded
@given(st.text(st.sampled_from("ab/%~ é"), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_spellings_of_one_path_lead_to_one_canonical_path(name, random):
    def spell(character):
        plain = "".join(f"%{byte:02x}" for byte in character.encode())
        return random.choice([plain, plain.upper()] if character == "%" else [plain, plain.upper(), character])

    raw = "/" + "".join("/" * random.randint(1, 3) if character == "/" else spell(character) for character in name)
    straight = "/" + "".join("%25" if character == "%" else character for character in name)

    assert isinstance(parse_target(raw), Target)
    assert parse_target(raw) == parse_target(straight)


glob_pieces = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "?", "[ab]", "[!a]"]), min_size=1, max_size=8)


def _matches(pieces, path):
    """Match a glob piece by piece, the slow and obvious way."""
    if not pieces:
        return not path
    piece, *rest = pieces
    if piece == "**":
        return any(_matches(rest, path[cut:]) for cut in range(len(path) + 1))
    if piece == "**/":
        return _matches(rest, path) or any(path[cut] == "/" and _matches(rest, path[cut + 1 :]) for cut in range(len(path)))
    if piece == "*":
        return any("/" not in path[:cut] and _matches(rest, path[cut:]) for cut in range(len(path) + 1))
    allowed = {"?": path[:1] != "/", "[ab]": path[:1] in {"a", "b"}, "[!a]": path[:1] not in {"a", "/"}}
    return bool(path) and allowed.get(piece, path[:1] == piece) and _matches(rest, path[1:])


@settings(max_examples=300, deadline=None)
@given(glob_pieces, st.text(st.sampled_from("ab/"), max_size=8))
def test_glob_matches_what_the_obvious_matcher_matches(pieces, path):
    glob = "".join(pieces).lstrip("/")
    assume(glob)
    tokens = re.findall(r"(?<![^/])\*\*/|\*\*|\[[^\]]+\]|.", glob)

    assert bool(compile_glob("/" + glob).fullmatch(path)) is _matches(tokens, path)


@bounded
@given(st.text())
def test_any_text_is_a_glob_or_a_value_error(text):
    try:
        pattern = compile_glob(text)
    except ValueError:
        return
    pattern.fullmatch("docs/a.css")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "glob", ["*a*a*a*a*a*b", "**/a/**/a/**/a/**/b", "**a**a**a**a**b", "**/*a*/**/*a*/**/*a*b", "*?*?*?*?*?b"]
)
@pytest.mark.parametrize("path", ["a" * 255, "a/" * 2000, ("a" * 254 + "/") * 16, "/" * 4000])
def test_glob_answers_at_once_however_many_stars_it_holds(glob, path):
    assert not compile_glob(glob).fullmatch(path)


@bounded
@given(st.integers(0, 253_402_300_799))
def test_date_that_was_formatted_is_read_back(seconds):
    assert parse_date(format_date(seconds), now=NOW) == seconds


@bounded
@given(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000))
def test_date_with_two_digits_lies_less_than_a_century_from_now_and_at_most_half_a_century_ahead(seconds, now):
    day, month, year, time = format_date(seconds).split()[1:5]
    if day == "29" and month == "Feb":
        return

    found = parse_date(f"Monday, {day}-{month}-{year[2:]} {time} GMT", now=now)

    assert (found - seconds) % 86_400 == 0
    assert format_date(found).split()[1:3] == [day, month]
    assert format_date(found).split()[3][2:] == year[2:]
    assert found - now <= 50 * 366 * 86_400
