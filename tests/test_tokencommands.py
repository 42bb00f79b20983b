"""The commands of access: what they print, keep and refuse."""

from __future__ import annotations

import json
import time
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from assetserver.access.keyfile import load_keys
from assetserver.access.keys import make_key
from assetserver.access.signedurls import Admission, verify_url
from assetserver.access.tokens import parse_token, verify_token
from assetserver.cli import main
from assetserver.data import open_records
from assetserver.errors import AccessError
from assetserver.settings import load_settings
from assetserver.tokencommands import parse_duration

ID = "A" * 22


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*words):
        return CliRunner().invoke(main, [*words, "--data", "d"])

    return invoke


def holder_of(text):
    token = parse_token(text)
    records = open_records(load_settings(None, {}, {"data.path": "d"}))
    try:
        return verify_token(token, records.access().tokens.find(token.id), now=time.time())
    finally:
        records.close()


def test_a_token_is_alone_on_the_last_line_and_counts(run):
    result = run(
        "token", "create", "--scope", "upload", "--scope", "read", "--prefix", "av-", "--expires", "90d", "--note", "CI"
    )
    assert result.exit_code == 0, result.output
    assert parse_token(result.stdout.rstrip("\n"))
    principal = holder_of(result.stdout.strip())
    assert (principal.scopes, principal.prefix) == ({"upload", "read"}, "av-")
    assert "upload read, names that begin with av-, expires 2" in result.stderr


def test_json_has_the_token_and_what_it_may(run):
    told = json.loads(run("token", "create", "--scope", "admin", "--json").stdout)
    assert parse_token(told["token"]).id == told["id"]
    assert (told["scopes"], told["expires"], told["valid"]) == (["admin"], None, True)


def test_tokens_are_listed_without_their_secrets(run):
    texts = [run("token", "create", "--scope", scope).stdout.strip() for scope in ("upload", "admin")]
    listed = run("token", "list").stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [
        [text.split("_")[1], scope] for text, scope in zip(texts, ("upload", "admin"), strict=True)
    ]
    assert not any(text.split("_")[2] in listed for text in texts)
    assert [one["scopes"] for one in json.loads(run("token", "list", "--json").stdout)] == [["upload"], ["admin"]]


@pytest.mark.parametrize("spell", [lambda text: text.split("_")[1], lambda text: text, lambda text: text[:16]])
def test_a_token_is_revoked_by_its_id_or_whole(run, spell):
    text = run("token", "create", "--scope", "upload").stdout.strip()
    assert run("token", "revoke", spell(text)).exit_code == 0
    assert run("token", "list").stdout.split("  ")[3].startswith("revoked 2")
    again = run("token", "revoke", spell(text))
    assert (again.exit_code, again.stderr) == (1, f"error: token {text.split('_')[1]} was revoked already\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("token", "revoke", "0" * 12), "there is no token 000000000000"),
        (
            ("token", "revoke", "mine"),
            "'mine' is not the id of a token: 12 hexadecimal digits, as `assetserver token list --data d` shows them",
        ),
        (
            ("token", "create", "--scope", "upload", "--expires", "soon"),
            "'soon' is not a time; write a number and s, m, h, d, w or y, such as 30d",
        ),
        (("sign", "/elsewhere/x"), "/elsewhere/x is not the path of an upload: /media/ID/NAME or /media/by-name/NAME"),
        (
            ("sign", f"/media/{ID}/a", "--expires", "0h"),
            "0h is no time; it must be at least 1s",
        ),
        (
            ("sign", "/media/abc/a"),
            "'abc' is not the id of an upload: 22 or more letters, digits, - and _, as /uploads lists them",
        ),
        (("sign", "/media/a"), "/media/a is not the path of an upload: /media/ID/NAME or /media/by-name/NAME"),
        (("sign", "/image/width=1/a.jpg"), "pictures on demand are not served: set images.on_demand = true"),
        (("sign", f"/media/{ID}/../a"), f"/media/{ID}/../a names nothing: dot segment"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run, words, message):
    run("token", "create", "--scope", "upload")
    result = run(*words)
    assert (result.exit_code, result.stderr) == (1, f"error: {message}\n")


@pytest.mark.parametrize("words", [("token", "list"), ("token", "revoke", "0" * 12), ("sign", f"/media/{ID}/a")])
def test_a_data_folder_that_is_not_there_is_not_made_by_looking(run, tmp_path, words):
    result = run(*words)
    assert (result.exit_code, result.stderr) == (
        1,
        "error: there is no data folder d. If it is elsewhere, name it with --data\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_no_tokens_are_told_so(run, tmp_path):
    (tmp_path / "d").mkdir()
    result = run("token", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no tokens in d yet: assetserver token create --scope upload" in result.stderr


@pytest.mark.parametrize(
    "spelling", [f"/media/{ID}/ä%20b.png", f"https://m.test/media/{ID}/%C3%A4 b.png", f"media/{ID}/ä b.png"]
)
def test_a_signed_url_admits_until_its_end(run, tmp_path, spelling):
    (tmp_path / "d").mkdir()
    result = run("sign", spelling, "--expires", "15m")
    assert result.exit_code == 0, result.output
    url = urlsplit(result.stdout.strip())
    assert (url.scheme, url.netloc, url.path) == ("http", "127.0.0.1:8000", f"/media/{ID}/%C3%A4%20b.png")
    ring = load_keys((), str(tmp_path / "d" / "keys"))
    now = time.time()
    admission = verify_url(ring, f"{ID}/ä b.png", url.query.encode(), now=now)
    assert isinstance(admission, Admission)
    assert now + 890 < admission.expires <= now + 901


def test_configured_keys_need_no_data_folder(run, tmp_path):
    (tmp_path / "assetserver.toml").write_text(
        f'[access]\nkeys = ["{make_key("k2")}", "{make_key("k1")}"]\n[uploads]\nmedia_url = "https://m.test"\n'
    )
    result = run("sign", "/media/by-name/people/a.png")
    assert result.stdout.startswith("https://m.test/media/by-name/people/a.png?expires=")
    assert "&key=k2&" in result.stdout
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("15m", 900), ("12h", 43200), ("90d", 7_776_000), ("2w", 1_209_600), ("1y", 31_536_000)]
)
def test_times_are_a_number_and_a_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "d", "-1d", "1.5h", "1D", "0s", "1d ", "9999999d"])
def test_other_times_are_refused(text):
    with pytest.raises(AccessError):
        parse_duration(text)
