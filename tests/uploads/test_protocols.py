"""Which protocol a request speaks, and what of the service's errors a client is told. The service does as the test says."""

import asyncio

import pytest
from msgspec.structs import replace
from starlette.requests import Request

from assetserver.access.principal import Principal
from assetserver.errors import BusyError, MethodNotAllowedError, StorageError, UploadBusyError
from assetserver.uploads import desk as desk_module
from assetserver.uploads.answers import Places
from assetserver.uploads.desk import Desk
from assetserver.uploads.protocols import UploadProtocols

from .vectors import UPLOAD

TUS = {"tus-resumable": "1.0.0"}
DRAFT = {"upload-draft-interop-version": "8"}


class Service:
    """Knows one upload, and raises ``error`` where somebody else would have to give way."""

    def __init__(self, upload=UPLOAD, error=None):
        self.upload = upload
        self.error = error
        self.removed = []

    async def find(self, _):
        return self.upload

    async def settle(self, _):
        if self.error:
            raise self.error
        return self.upload

    async def remove(self, upload_id):
        self.removed.append(upload_id)


@pytest.fixture(autouse=True)
def admitted(monkeypatch):
    async def authorise(*_):
        return Principal("o", frozenset({"upload"}))

    monkeypatch.setattr(desk_module, "authorise", authorise)


def ask(service, method, fields, **options):
    """Return the answer to a request without a body to the one upload."""

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    scope = {"type": "http", "method": method, "path": "/uploads/" + UPLOAD.id, "query_string": b"", "headers": headers}
    request = Request(scope | {"path_params": {"id": UPLOAD.id}}, receive)
    return asyncio.run(UploadProtocols(Desk(service, Places(), 100), **options).item(request))


@pytest.mark.parametrize(
    ("kind", "fields", "status"),
    [
        ("tus", TUS, 200),
        ("tus", {}, 200),
        ("resumable", DRAFT, 204),
        ("resumable", {}, 204),
        ("raw", {}, 200),
        ("tus", DRAFT, 204),
        ("resumable", TUS, 200),
    ],
)
def test_head_is_answered_by_the_protocol_that_asks_or_else_by_that_which_began(kind, fields, status):
    assert ask(Service(replace(UPLOAD, kind=kind)), "HEAD", fields).status_code == status


@pytest.mark.parametrize("fields", [TUS, DRAFT])
@pytest.mark.parametrize("error", [BusyError("locked"), UploadBusyError("busy")])
def test_head_of_an_upload_that_is_busy_is_answered_423_so_that_clients_come_again(fields, error):
    assert ask(Service(error=error), "HEAD", fields).status_code == 423


def test_head_where_the_disk_is_broken_is_no_423():
    assert ask(Service(error=StorageError("read-only")), "HEAD", TUS).status_code == 503


@pytest.mark.parametrize("fields", [TUS, {}])
def test_delete_removes_whatever_protocol_asks(fields):
    service = Service()

    answer = ask(service, "DELETE", fields)

    assert (answer.status_code, service.removed) == (204, [UPLOAD.id])
    assert answer.headers.get("tus-resumable") == fields.get("tus-resumable")


@pytest.mark.parametrize("fields", [TUS, DRAFT])
@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
def test_upload_that_failed_is_gone_but_can_be_removed(method, fields):
    service = Service(replace(UPLOAD, state="failed"))

    assert ask(service, method, fields).status_code == 410
    assert ask(service, "DELETE", fields).status_code == 204


def test_options_tell_of_both_protocols_unless_one_is_switched_off():
    both, one = ask(Service(), "OPTIONS", {}), ask(Service(), "OPTIONS", {}, speaks_resumable=False)

    assert (both.headers["tus-version"], both.headers["upload-limit"]) == ("1.0.0", "max-size=100")
    assert (one.headers["tus-version"], one.headers.get("upload-limit")) == ("1.0.0", None)


def test_post_that_stands_for_nothing_is_not_allowed():
    with pytest.raises(MethodNotAllowedError) as caught:
        ask(Service(), "POST", TUS)

    assert "PATCH" in caught.value.allow
