import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from starlette.testclient import TestClient
from assetserver.app import create_app
from assetserver.settings import load_settings

settings = load_settings(None, {}, {"data.path": "data", "server.access_log": "off"})
with TestClient(create_app(settings)) as client:
    for target in %(targets)s:
        client.get(target)
print(" ".join(name for name in ("sqlalchemy", "sqlite3", "pysqlite3") if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("targets", "is_there", "is_opened"),
    [
        (["/", "/-/healthy", "/a.css", "/-/api/openapi.json", "/-/releases/x/", "/uploads"], False, False),
        (["/media/aaaaaaaaaaaaaaaaaaaaaaaa/a.txt"], False, False),
        (["/media/aaaaaaaaaaaaaaaaaaaaaaaa/a.txt"], True, True),
    ],
)
def test_database_is_imported_only_where_a_record_is_touched(tmp_path, targets, is_there, is_opened):
    if is_there:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "records.sqlite3").touch()
    program = PROGRAM % {"targets": targets}
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", program]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True, env=environment)

    assert bool(done.stdout.split()) == is_opened, done.stdout
    if not is_opened:
        assert not (tmp_path / "data").exists()


def test_uploads_can_be_switched_off(tmp_path):
    program = """
from starlette.testclient import TestClient
from assetserver.app import create_app
from assetserver.settings import load_settings

settings = load_settings(None, {}, {"server.access_log": "off", "uploads.enabled": False})
client = TestClient(create_app(settings))
print(client.post("/uploads").status_code, client.get("/-/api/openapi.json").status_code)
"""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", program]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True, env=environment)

    assert done.stdout.split() == ["405", "404"]
