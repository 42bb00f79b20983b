"""Who may upload: before a byte of the body is read, on every verb."""

from __future__ import annotations

import time

import anyio
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from assetserver.access.grants import GrantRequest, issue_grant
from assetserver.access.keys import KeyRing, parse_key
from assetserver.access.principal import Principal
from assetserver.access.records import AccessRecords
from assetserver.access.tokens import issue_token
from assetserver.errors import AssetServerError, ForbiddenError
from assetserver.storage.pools import FilePool
from assetserver.uploads.authorising import Authority, Guarded, authorise, check_owner, restrict
from assetserver.uploads.records import NewUpload

RING = KeyRing([parse_key("first:" + "f" * 40)])


class Tokens:
    """Tokens in memory."""

    def __init__(self):
        self.records = {}
        self.mark = b""
        self.looked_up = 0

    def read_mark(self):
        return self.mark

    def issue(self, *scopes, **options):
        token, record = issue_token(scopes, now=time.time(), **options)
        self.records[token.id] = record
        return str(token)

    def find(self, token_id):
        self.looked_up += 1
        return self.records.get(token_id)

    def revoke(self, text):
        token_id = text.split("_")[1]
        self.records[token_id] = msgspec.structs.replace(self.records[token_id], revoked=time.time())
        self.mark += b"m"


class Grants:
    """Uses of grants in memory."""

    def __init__(self):
        self.uses = {}

    def claim(self, grant):
        used = self.uses.get(grant.id, 0)
        self.uses[grant.id] = used + (free := not grant.uses or used < grant.uses)
        return free

    def release(self, grant):
        self.uses[grant.id] -= 1


class Place:
    """An application with one guarded route, which says what it would do, and whether the body was asked for."""

    def __init__(self):
        self.tokens, self.grants = Tokens(), Grants()
        self.authority = Authority(
            lambda: AccessRecords(self.tokens, self.grants),
            lambda: RING,
            FilePool("test", 2),
            collections=["people", "other"],
            read_mark=self.tokens.read_mark,
        )
        self.new = NewUpload(name="a.png", length=10, declared_type="image/png")
        self.scopes = ("upload",)
        self.status = 200
        self.asked_for_body = False
        self.restricted = None

    async def handle(self, request: Request):
        try:
            principal = await authorise(request, *self.scopes)
            self.restricted = await restrict(request, principal, self.new)
        except AssetServerError as error:
            headers = {"www-authenticate": error.challenge} if error.status == 401 else None
            return PlainTextResponse(str(error), error.status, headers)
        return PlainTextResponse(principal.id, self.status)

    def client(self, *origins):
        guard = Middleware(Guarded, self.authority, origins or ("*",))
        route = Route("/uploads", self.handle, methods=["GET", "POST", "PATCH", "OPTIONS"], middleware=[guard])
        app = Starlette(routes=[route])

        async def watched(scope, receive, send):
            async def receive_noting():
                self.asked_for_body = True
                return await receive()

            await app(scope, receive_noting, send)

        return TestClient(watched)

    def post(self, text=None, query="", **fields):
        headers = {"authorization": f"Bearer {text}"} if text else {}
        return self.client().post(f"/uploads{query}", content=b"body", headers=headers | fields)

    def grant(self, issuer=None, **wanted):
        issuer = issuer or self.tokens.issue("upload")
        return issue_grant(RING, GrantRequest(**wanted), issuer=issuer.split("_")[1], now=time.time())[0]


@pytest.fixture
def place():
    place = Place()
    yield place
    place.authority.close()


def test_without_a_token_the_answer_is_401_before_the_body_is_asked_for(place):
    answer = place.post()
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="assetserver"'
    assert not place.asked_for_body


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_says_who_asks(place, scheme):
    text = place.tokens.issue("upload")
    answer = place.post(authorization=f"{scheme} {text}")
    assert (answer.status_code, answer.text) == (200, text.split("_")[1])
    assert place.restricted.owner == answer.text


@pytest.mark.parametrize("field", ["Basic YTpi", "Bearer", "Bearer a b", "ast_0", "Bearer \xe4"])
def test_a_field_that_cannot_be_read_is_401(place, field):
    answer = place.client().post("/uploads", headers=[(b"authorization", field.encode("latin-1"))])
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_two_fields_are_401_even_if_both_are_right(place):
    text = f"Bearer {place.tokens.issue('upload')}".encode()
    assert place.client().post("/uploads", headers=[(b"authorization", text)] * 2).status_code == 401


def test_a_token_is_looked_up_once_for_many_requests_and_refused_at_once_when_it_is_revoked(place):
    text = place.tokens.issue("upload")
    assert [place.post(text).status_code for _ in range(5)] == [200] * 5
    assert place.tokens.looked_up == 1
    forged = text[:-4] + ("0000" if text[-4:] != "0000" else "1111")
    assert place.post(forged).status_code == 401
    place.tokens.revoke(text)
    assert (place.post(text).status_code, place.post(text).text) == (401, "the token was revoked")


def test_a_token_that_does_not_count_is_401_and_told_why_to_its_holder_alone(place):
    expired, revoked = place.tokens.issue("upload", lifetime_s=-1), place.tokens.issue("upload")
    place.tokens.revoke(revoked)
    forged = revoked[:-4] + ("0000" if revoked[-4:] != "0000" else "1111")
    texts = [place.post(text).text for text in (expired, revoked, forged)]
    assert texts == ["the token has expired", "the token was revoked", "the token is not valid here"]
    assert {place.post(text).status_code for text in (expired, revoked, forged)} == {401}


def test_a_token_without_the_scope_is_403(place):
    answer = place.post(place.tokens.issue("read", "publish"))
    assert (answer.status_code, answer.text) == (403, "this needs the scope upload; yours: publish, read")
    assert place.post(place.tokens.issue("admin")).status_code == 200
    assert not place.asked_for_body


def test_one_of_several_scopes_is_enough(place):
    place.scopes = ("upload", "read")
    assert place.post(place.tokens.issue("read")).status_code == 200


def test_a_token_is_not_looked_for_in_the_query(place):
    assert place.post(query=f"?grant={place.tokens.issue('upload')}").status_code == 401


def test_the_prefix_of_a_token_holds_for_all_names(place):
    text = place.tokens.issue("upload", prefix="b")
    assert place.post(text).status_code == 403
    place.new = msgspec.structs.replace(place.new, name="b.png")
    assert place.post(text).status_code == 200
    place.new = msgspec.structs.replace(place.new, by_name="a.png")
    assert place.post(text).status_code == 403


@pytest.mark.parametrize("in_query", [True, False])
def test_a_grant_is_good_for_what_it_says(place, in_query):
    grant = place.grant(max_size=10, types=("image/*",), prefix="a", collection="people")
    answer = place.post(query=f"?grant={grant}") if in_query else place.post(grant)
    assert (answer.status_code, answer.text[:6]) == (200, "grant:")
    new = place.restricted
    assert (new.max_size, new.types, new.collection, new.owner) == (10, ("image/*",), "people", answer.text)


@pytest.mark.parametrize(
    ("wanted", "change", "status"),
    [
        ({"max_size": 9}, {}, 413),
        ({"max_size": 9}, {"length": None}, 200),
        ({"types": ("video/mp4",)}, {}, 415),
        ({"types": ("video/mp4",)}, {"declared_type": ""}, 200),
        ({"prefix": "b"}, {}, 403),
        ({"collection": "people"}, {"collection": "other"}, 403),
        ({}, {"collection": "other"}, 403),
        ({}, {"by_name": "a.png"}, 403),
        ({"prefix": "a.png"}, {"by_name": "a.png"}, 200),
        ({"prefix": "a"}, {"by_name": "b.png"}, 403),
    ],
)
def test_what_a_grant_does_not_cover_is_refused_and_not_counted(place, wanted, change, status):
    place.new = msgspec.structs.replace(place.new, **change)
    assert place.post(place.grant(**wanted)).status_code == status
    assert sum(place.grants.uses.values()) == (status == 200)
    assert not place.asked_for_body


def test_the_smaller_limit_holds(place):
    place.new = msgspec.structs.replace(place.new, max_size=5, length=None)
    place.post(place.grant(max_size=10))
    assert place.restricted.max_size == 5


def test_a_grant_can_be_used_once(place):
    grant = place.grant()
    assert [place.post(grant).status_code for _ in range(2)] == [200, 403]


@pytest.mark.parametrize("status", [400, 503])
def test_a_use_that_failed_does_not_count(place, status):
    grant, place.status = place.grant(), status
    assert place.post(grant).status_code == status
    place.status = 201
    assert [place.post(grant).status_code for _ in range(2)] == [201, 403]


def test_a_grant_is_void_when_the_token_that_made_it_is(place):
    issuer = place.tokens.issue("upload")
    grant = place.grant(issuer, uses=0)
    assert place.post(grant).status_code == 200
    place.tokens.revoke(issuer)
    assert place.post(grant).status_code == 401


def test_a_grant_ends_with_the_token_that_made_it(place):
    issuer = place.tokens.issue("upload", lifetime_s=1000)
    grant = place.grant(issuer, uses=0, lifetime_s=3600)
    assert place.post(grant).status_code == 200
    place.authority.now = lambda: time.time() + 1001
    answer = place.post(grant)
    assert (answer.status_code, answer.text) == (401, "the grant has expired")


def test_a_grant_uploads_and_nothing_else(place):
    place.scopes = ("read", "publish", "admin")
    assert place.post(place.grant()).status_code == 403


@pytest.mark.parametrize("text", ["asg_x", "asg_e30.first." + "s" * 43])
def test_a_forged_grant_is_401(place, text):
    assert place.post(text).status_code == 401


@pytest.mark.parametrize(
    ("scopes", "owner", "verbs"),
    [
        ({"upload"}, "me", {"read", "write", "remove"}),
        ({"upload"}, "other", set()),
        ({"upload", "read"}, "other", {"read"}),
        ({"admin"}, "other", {"read", "write", "remove"}),
    ],
)
def test_what_belongs_to_others_is_theirs(scopes, owner, verbs):
    allowed = set()
    for verb in ("read", "write", "remove"):
        try:
            check_owner(Principal("me", frozenset(scopes)), owner, verb)
            allowed.add(verb)
        except ForbiddenError:
            continue
    assert allowed == verbs


def preflight(client, origin="https://app.example"):
    fields = {
        "origin": origin,
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "authorization, x-mine",
    }
    return client.options("/uploads", headers=fields)


def test_a_preflight_needs_no_token(place):
    answer = preflight(place.client())
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization, x-mine"
    assert answer.headers["access-control-max-age"] == "86400"


def test_pages_may_read_what_tus_clients_need_also_of_errors(place):
    answer = place.post(origin="https://app.example")
    assert answer.status_code == 401
    exposed = answer.headers["access-control-expose-headers"]
    assert {"Location", "Upload-Offset", "Upload-Length", "Tus-Resumable", "Upload-Expires"} <= set(exposed.split(", "))


def test_origins_can_be_named(place):
    client = place.client("https://app.example", "https://two.example")
    allowed, refused = preflight(client), preflight(client, "https://evil.example")
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in refused.headers
    assert {answer.headers["vary"] for answer in (allowed, refused)} == {"Origin"}


def test_a_preflight_cannot_put_anything_into_a_field(place):
    fields = {"origin": "https://a", "access-control-request-method": "PUT", "access-control-request-headers": "a;b\\"}
    answer = place.client().options("/uploads", headers=fields)
    assert "Authorization" in answer.headers["access-control-allow-headers"]


def test_options_that_are_no_preflight_reach_the_handler(place):
    assert place.client().options("/uploads").status_code == 401


def test_a_use_is_taken_back_if_nobody_is_answered(place):
    grant = place.grant()

    async def run():
        async def never(scope, receive, send):
            principal = await authorise(Request(scope), "upload")
            await restrict(Request(scope), principal, place.new)
            raise RuntimeError

        headers = [(b"authorization", f"Bearer {grant}".encode())]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        with pytest.raises(RuntimeError):
            await Guarded(never, place.authority)(scope, None, None)

    anyio.run(run)
    assert sum(place.grants.uses.values()) == 0
