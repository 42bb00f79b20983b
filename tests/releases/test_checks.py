"""Checks at publish: what stops and how to go on, what is only said, and how much of it."""

import json
from itertools import permutations
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from assetserver.releases.checks import (
    SHOWN,
    CheckedRelease,
    CheckPolicy,
    Finding,
    check_release,
    holds_secret,
    is_left_out,
    is_source_map,
)
from assetserver.releases.examine import examine, kind_of
from assetserver.releases.manifest import FileRecord
from assetserver.releases.nearnames import LIMIT_ASKED, NearNames
from assetserver.releases.secretfiles import secret_by_name
from assetserver.storage.blobs import Digest

SAMPLE = Path(__file__).parents[2] / "static"
BASE64 = b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"


def record(size: int = 1, fingerprint: str = "") -> FileRecord:
    return FileRecord(Digest("0" * 64), size, fingerprint)


def make_release(contents: dict[str, str], **known) -> CheckedRelease:
    """A release of texts by path, examined as publish does; with a 404.html, unless ``bare``."""
    if not known.pop("bare", False):
        contents = {"404.html": "", **contents}
    facts = {path: examine(kind, text.encode()) for path, text in contents.items() if (kind := kind_of(path))}
    secrets = {path: what for path, text in contents.items() if (what := holds_secret(text.encode()))}
    return CheckedRelease({path: record(len(text)) for path, text in contents.items()}, facts, secrets=secrets, **known)


def check(contents: dict[str, str], policy: CheckPolicy | None = None, **known) -> list[Finding]:
    return check_release(make_release(contents, **known), policy or CheckPolicy())


def messages(contents: dict[str, str], policy: CheckPolicy | None = None, **known) -> list[str]:
    return [one.message for one in check(contents, policy, **known)]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_sample_sites_have_no_findings(version):
    root = SAMPLE / version
    contents = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    facts = {path: examine(kind, content) for path, content in contents.items() if (kind := kind_of(path))}
    assert sum(len(one.references) for one in facts.values()) > 20
    release = CheckedRelease({path: record(len(content)) for path, content in contents.items()}, facts)
    assert check_release(release, CheckPolicy(missing_references="stop", source_maps="stop")) == []
    assert not any(holds_secret(content) for content in contents.values())


def test_missing_reference_names_page_line_and_what_was_probably_meant():
    contents = {"index.html": "<p>\n<script src=/assets/app.js></script>", "assets/app.4f2a9c01.js": ""}
    assert check(contents) == [
        Finding(
            "warning",
            "missing-reference",
            "index.html",
            2,
            "index.html:2: /assets/app.js is not in the release; did you mean /assets/app.4f2a9c01.js?",
        )
    ]


@pytest.mark.parametrize(
    ("missing", "there", "meant"),
    [
        ("assets/app-Bq9nTXYz.js", "assets/app-C3wrgTdA.js", "assets/app-C3wrgTdA.js"),
        ("img/Logo.PNG", "img/logo.png", "img/logo.png"),
        ("css/style.css", "assets/style.css", "assets/style.css"),
        ("img/pallete.svg", "img/palette.svg", "img/palette.svg"),
        ("img/a.svg", "img/completely-different.png", None),
        ("docs/", "docs2/index.html", None),
    ],
)
def test_what_was_probably_meant(missing, there, meant):
    assert NearNames({there, "x.txt"}).find(missing) == meant


def test_hints_are_bounded():
    near = NearNames({"a.css"})
    assert [near.find("A.css") for _ in range(LIMIT_ASKED + 5)] == ["a.css"] * LIMIT_ASKED + [None] * 5


def test_reference_that_many_pages_share_is_told_once():
    pages = {f"page{number:03}.html": "<img src=gone.png>" for number in range(500)}
    (found,) = check(pages)
    assert (found.count, found.path, found.line) == (500, "page000.html", 1)
    assert found.message == "page000.html:1: /gone.png is not in the release (and from 499 more places)"


def test_of_many_findings_the_first_are_listed_and_the_rest_is_counted():
    findings = check({"index.html": "\n".join(f"<img src=gone{number:03}.png>" for number in range(500))})
    assert [one.line for one in findings] == [1, 2, 3, 4, 5, 0]
    assert findings[-1] == Finding("warning", "missing-reference", "", 0, "and 495 more of this kind (missing-reference)", 495)
    assert len(check({"index.html": "".join(f"<img src=g{number}>" for number in range(SHOWN + 1))})) == SHOWN + 1


def test_references_to_folders_pages_and_routes_are_answered():
    page = "<a href=./><a href=/docs><a href=/docs/><a href=/about><a href=/about.html?x#y><a href=/old/1><a href=/%C3%A9>"
    contents = {"index.html": page, "docs/index.html": "", "about.html": "", "é.html": ""}
    (found,) = check(contents)
    assert found.message == "index.html:1: /old/1 is not in the release"
    assert check(contents, answered=lambda path: path.startswith("old/")) == []


def test_with_a_fallback_only_files_are_missing():
    assert messages({"index.html": "<a href=/users/1><img src=/a.png>"}, fallback=True) == [
        "index.html:1: /a.png is not in the release"
    ]


def test_style_sheets_refer_from_their_own_folder_and_base_moves_pages():
    contents = {
        "css/a.css": "a{}\nb{background:url(x.png)}",
        "docs/a.html": "<base href=/><img src=x.png>",
        "docs/b.html": "<img src=x.png>",
        "css/x.png": "",
        "x.png": "",
    }
    assert messages(contents) == ["docs/b.html:1: /docs/x.png is not in the release; did you mean /css/x.png?"]


def test_same_url_means_another_file_in_another_folder():
    contents = {"a/i.html": "<img src=x.png>", "b/i.html": "<img src=x.png>", "a/x.png": ""}
    assert messages(contents) == ["b/i.html:1: /b/x.png is not in the release; did you mean /a/x.png?"]


def test_what_lies_outside_of_the_mount_is_not_missing():
    page = "<a href=/other><a href=/app/x><a href=../y>"
    assert messages({"index.html": page}, mount="/app/") == ["index.html:1: /app/x is not in the release"]


def test_missing_references_may_stop_or_be_nobodys_business():
    contents = {"index.html": "<img src=a.png>"}
    (found,) = check(contents, CheckPolicy(missing_references="stop"))
    assert (found.level, found.message) == (
        "error",
        'index.html:1: /a.png is not in the release; correct it, or set publish.missing_references = "warn"',
    )
    assert check(contents, CheckPolicy(missing_references="off")) == []


@pytest.mark.parametrize(
    "path", [".env", ".env.local", "a/.git", ".htpasswd", "keys/id_rsa", "store.P12", ".ssh", ".npmrc", ".envrc"]
)
def test_secrets_stop_by_name_also_if_they_were_left_out(path):
    (found,) = check({}, left_out=[path])
    assert (found.level, found.code, found.path) == ("error", "secret", path)
    assert found.message.endswith('remove it, publish the folder that the build wrote, or set publish.secrets = "leave-out"')
    assert check({path: ""})[0].level == "error"


@pytest.mark.parametrize(
    "path", [".env.example", "id_rsa.pub", ".DS_Store", "environment.js", ".well-known/x", "key.pem", "p12"]
)
def test_what_is_no_secret_by_name(path):
    assert secret_by_name(path) is None
    assert check({}, left_out=[path]) == []


def test_what_a_terminal_would_obey_or_cannot_print_is_escaped():
    found = messages({"a\u202eb.html": "<img src='\u202e.png'>"}, left_out=[".env.\n\udcff"])
    assert found[0].startswith(".env.\\n\\udcff looks like")
    assert found[1] == "a\\u202eb.html:1: /\\u202e.png is not in the release"


def test_policy_of_secrets():
    leave, publish = CheckPolicy(secrets="leave-out"), CheckPolicy(secrets="publish")
    assert messages({"id_rsa": ""}, publish) == []
    assert messages({"a.txt": ""}, leave, left_out=[".env"]) == [".env is left out: it looks like environment variables"]
    assert is_left_out("id_rsa", leave)
    assert is_left_out("a.txt", leave, "a private key")
    for policy in (publish, CheckPolicy()):
        assert not is_left_out("id_rsa", policy, "a private key")


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"-----BEGIN PRIVATE KEY-----\n" + BASE64, "a private key"),
        (
            b"\xef\xbb\xbfx\r\n-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: A,B\r\n\r\n" + BASE64,
            "a private key",
        ),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + BASE64, "a private key"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n" + BASE64, "a private key"),
        (b'{"private_key": "-----BEGIN PRIVATE KEY-----\\n' + BASE64 + b'\\n"}', "a private key"),
        (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "a private key"),
        (b"AGE-SECRET-KEY-1" + b"Q" * 58, "an age secret key"),
        (b'const token = "ast_' + b"0a" * 6 + b"_" + b"9f" * 24 + b'";', "a token of an assetserver"),
        (b"broadcast_" + b"0a" * 6 + b"_" + b"9f" * 24, None),
        (b"untrusted comment: minisign encrypted secret key\nRWRTY0Iy" + BASE64, "a minisign secret key"),
        (b"untrusted comment: minisign public key 1\nRWQf6LRCGA9i" + BASE64, None),
        (b"-----BEGIN PUBLIC KEY-----\n" + BASE64, None),
        (b'const head = "-----BEGIN PRIVATE KEY-----\\n" + body;', None),
        (b"Paste it: -----BEGIN PRIVATE KEY----- ... -----END PRIVATE KEY-----", None),
        (b"-----BEGIN PRIVATE KEY-----\nMIIEvQ...", None),
        (b"AGE-SECRET-KEY-1...", None),
        (b"x" * (1 << 20) + b"-----BEGIN PRIVATE KEY-----\n" + BASE64, None),
        (b"", None),
    ],
)
def test_secret_by_content(head, what):
    assert holds_secret(head) == what


def real_keys() -> dict[str, str]:
    """Private keys as programs write them, by what they are."""
    formats = {"pkcs8": PrivateFormat.PKCS8, "traditional": PrivateFormat.TraditionalOpenSSL, "ssh": PrivateFormat.OpenSSH}
    keys = {"rsa": rsa.generate_private_key(65537, 2048), "ec": ec.generate_private_key(ec.SECP256R1())}
    found = {
        f"{kind} {name}{' encrypted' if password else ''}": key.private_bytes(
            Encoding.PEM, form, BestAvailableEncryption(password) if password else NoEncryption()
        )
        for kind, key in keys.items()
        for name, form in formats.items()
        for password in ((b"", b"secret") if name != "ssh" else (b"",))
    }
    for name in ("pkcs8", "ssh"):
        found[f"ed25519 {name}"] = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, formats[name], NoEncryption())
    return {name: content.decode() for name, content in found.items()}


def test_real_keys_are_found_in_whatever_they_are_written():
    for name, key in real_keys().items():
        lines = key.splitlines()
        written = {
            "pem": key,
            "windows": key.replace("\n", "\r\n"),
            "json": json.dumps({"private_key": key}),
            "json in json": json.dumps(json.dumps({"private_key": key})),
            "lines in json": json.dumps(lines, indent=1),
            "env": "A=1\nKEY=" + json.dumps(key),
            "env of several lines": f'KEY="{key}"',
            "yaml": "key: |\n" + "".join(f"    {line}\n" for line in lines),
            "script": "const key = " + " +\n".join(json.dumps(line + "\n") for line in lines),
        }
        missed = [how for how, text in written.items() if holds_secret(text.encode()) != "a private key"]
        assert missed == [], name


@pytest.mark.parametrize("path", ["key.pem", "tls/server.KEY"])
@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n", True),
        ("Bag Attributes\r\n-----BEGIN PRIVATE KEY-----\r\nabc", True),
        ("-----BEGIN PRIVATE KEY-----\n...", False),
        ("# it begins with -----BEGIN PRIVATE KEY-----\nMIIE", False),
        ("-----BEGIN CERTIFICATE-----\nMIIE\n", False),
    ],
)
def test_in_a_file_that_is_called_a_key_its_beginning_is_enough(path, text, is_key):
    assert holds_secret(text.encode(), path) == ("a private key" if is_key else None)
    assert holds_secret(text.encode(), "manual.md") is None


@pytest.mark.parametrize(
    "piece", [b"-----BEGIN ", b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN PRIVATE KEY-----\nA: ", b"PRIVATE KEY\n"]
)
def test_hostile_heads_come_to_an_end(piece):
    head = b"-----BEGIN PRIVATE KEY-----" + b"\n" * 500_000 + piece * (500_000 // len(piece))
    assert holds_secret(head) is None
    assert holds_secret(b"x" + head + b"\n", "a.md") is None
    assert holds_secret(b"x-----BEGIN PRIVATE KEY-----" + b" \t" * 250_000 + b"\n" * 500_000, "a.pem") is None


@settings(max_examples=200, deadline=None)
@given(
    head=st.lists(
        st.sampled_from([b"-----BEGIN ", b"PRIVATE KEY", b"-----", b"\n", b"A: b", BASE64[:20]]) | st.binary(max_size=9)
    )
)
def test_any_head_is_looked_at(head):
    found = holds_secret(b"".join(head))
    assert found is None or b"PRIVATE KEY-----" in b"".join(head)


def test_a_key_inside_a_file_stops():
    key = f"-----BEGIN PRIVATE KEY-----\n{BASE64.decode()}"
    assert messages({"notes.txt": key})[0].startswith("notes.txt looks like a private key; ")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("publish", []),
        (
            "warn",
            [("warning", 'a.js.map shows your sources to everyone; publish.source_maps = "publish" or "leave-out" decides')],
        ),
        ("stop", [("error", 'a.js.map shows your sources to everyone; remove it, or set publish.source_maps = "leave-out"')]),
        ("leave-out", []),
    ],
)
def test_policy_of_source_maps(policy, expected):
    found = check({"a.js.map": "", "world.map": ""}, CheckPolicy(source_maps=policy))
    assert [(one.level, one.message) for one in found] == expected
    assert is_left_out("a.js.map", CheckPolicy(source_maps=policy)) is (policy == "leave-out")


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (2, "a0.js.map and a1.js.map"),
        (3, "a0.js.map, a1.js.map and a2.js.map"),
        (40, "a0.js.map, a1.js.map, a10.js.map and 37 more"),
    ],
)
def test_many_source_maps_are_one_line(count, names):
    (found,) = check({f"a{number}.js.map": "" for number in range(count)})
    assert found.message == f'{names} show your sources to everyone; publish.source_maps = "publish" or "leave-out" decides'
    assert (found.path, found.count) == ("a0.js.map", count)


@pytest.mark.parametrize(
    ("paths", "code", "beginning"),
    [
        (["node_modules/a/b.js", "node_modules/c.css"], "node_modules", "node_modules/a/b.js and node_modules/c.css: packages"),
        (["dump.SQL"], "database", "dump.SQL: a database, which everybody can download; remove it"),
        (["data/a.sqlite", "data/b.db"], "database", "data/a.sqlite and data/b.db: a database"),
        (["netlify.toml"], "platform-file", "netlify.toml: settings of a host, which nothing reads here"),
        (["sub/wrangler.toml"], "platform-file", "sub/wrangler.toml: settings"),
        (["functions/api.ts"], "functions", "functions/api.ts: code for a server, which nothing runs here"),
        (["netlify/functions/a.mjs"], "functions", "netlify/functions/a.mjs: code"),
    ],
)
def test_what_a_build_seldom_writes_is_a_warning_with_what_to_do(paths, code, beginning):
    (found,) = check(dict.fromkeys(paths, ""))
    assert (found.level, found.code, found.count) == ("warning", code, len(paths))
    assert found.message.startswith(beginning)


@pytest.mark.parametrize(
    "path", ["functions/index.html", "docs/functions/a.js", "assets/node_modules/a.png", "node_modules", "app.toml", "sql.html"]
)
def test_what_a_build_may_well_write_is_not_told(path):
    assert check({path: ""}) == []


def test_what_a_source_map_is():
    assert is_source_map("assets/A.CSS.MAP")
    assert not is_source_map("world.map")


def test_immutable_by_a_rule_without_a_hash():
    names = [
        "assets/app.css",
        "assets/bootstrap.css",
        "assets/logo-20261122.svg",
        "assets/index-DiwrgTda.js",
        "assets/a-4f2a9c01.js",
    ]
    files = {name: record(fingerprint="declared by assets/*") for name in names}
    files |= {"assets/proved.css": record(fingerprint="proved"), "other.css": record()}
    release = CheckedRelease(files, immutable_by_rule=lambda path: path.startswith("assets/"))
    found = check_release(release, CheckPolicy())
    assert [(one.level, one.code, one.path) for one in found] == [("warning", "unhashed-immutable", name) for name in names[:3]]
    assert "assets/app.css is immutable by a rule, but its name holds no hash" in found[0].message


def test_huge_files_are_a_warning_over_the_limit():
    files = {"a.iso": record(101 << 20), "b.iso": record(100 << 20), "c.iso": record(5 << 30)}
    found = check_release(CheckedRelease(files), CheckPolicy())
    assert [one.message for one in found] == [
        "a.iso has 105.9 MB, more than 104.9 MB; raise publish.huge_file_bytes if it is meant",
        "c.iso has 5.4 GB, more than 104.9 MB; raise publish.huge_file_bytes if it is meant",
    ]
    assert {one.level for one in found} == {"warning"}


def test_site_without_a_page_for_what_is_not_found():
    (found,) = check({"index.html": ""}, bare=True)
    assert (found.level, found.code) == ("warning", "not-found-page")
    assert check({"index.html": ""}, bare=True, fallback=True) == []
    assert check({"index.html": ""}, CheckPolicy(not_found_page="off"), bare=True) == []
    assert check({"dist/a.js": ""}, bare=True) == []


def test_a_rule_that_answers_everything_is_told_with_what_to_do_instead_of_a_missing_404_page():
    def answered(_: str) -> bool:
        return True

    (found,) = check({"index.html": ""}, bare=True, catch_all="/index.html", answered=answered)
    assert (found.level, found.code) == ("warning", "catch-all")
    assert found.message == (
        "missing scripts and images get /index.html with 200, by /* in _redirects; "
        'use fallback = "index.html" in [[sites]] instead, which answers 404 for those'
    )
    (found,) = check({"index.html": ""}, catch_all="/index.html", answered=answered, fallback=True)
    assert found.message.endswith("_redirects; remove that rule: the fallback of the site answers 404 for those")
    assert check({"index.html": ""}, bare=True, answered=answered) == []
    assert check({"index.html": ""}, CheckPolicy(not_found_page="off"), bare=True, catch_all="/index.html") == []


def test_names_that_get_lost_on_other_machines():
    contents = {"Logo.png": "", "logo.png": "", "a/é.txt": "", "a/e\u0301.txt": "", "a/É.txt": ""}
    found = check(contents)
    assert [(one.level, one.code) for one in found] == [
        ("warning", "case-clash"),
        ("warning", "case-clash"),
        ("warning", "unicode-clash"),
    ]
    assert found[1].message.startswith("logo.png and Logo.png differ only in upper and lower case")
    assert found[2].message.startswith("a/\\xe9.txt and a/e\\u0301.txt differ only in Unicode normal form")


def test_errors_come_first_and_the_order_does_not_depend_on_that_of_the_files():
    contents = {
        "index.html": "<img src=b.png><img src=a.png>",
        "b.html": "<img src=a.png>",
        "A.js.map": "",
        "a.js.map": "",
        "id_rsa": "",
    }
    expected = check(contents, bare=True)
    assert [one.level for one in expected] == ["error"] + ["warning"] * (len(expected) - 1)
    for names in permutations(contents):
        assert check({name: contents[name] for name in names}, bare=True) == expected


PATHS = st.text(st.sampled_from("aAé.\u0301/-_% ") | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None)
@given(
    contents=st.dictionaries(
        PATHS | PATHS.map(lambda one: one + ".html"), st.sampled_from(["", "<img src=a.png>", "<a href='/%'>"])
    ),
    left_out=st.lists(PATHS, max_size=3),
)
def test_any_release_is_checked_and_the_list_is_short(contents, left_out):
    findings = check(contents, left_out=left_out)
    assert check(dict(reversed(contents.items())), left_out=left_out) == findings
    assert len(findings) <= (SHOWN + 1) * 8
    assert all(one.message and one.count > 0 for one in findings)
