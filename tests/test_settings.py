"""Settings from file, environment and flags: what they become, and the one line that refuses a wrong one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from assetserver.errors import SettingsError
from assetserver.settings import (
    CompressionSettings,
    MountSettings,
    ServerSettings,
    Settings,
    describe_settings,
    load_settings,
)
from assetserver.tomllines import scan_lines

PACKAGE = Path(__file__).parents[1] / "assetserver"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text, environ=None, overrides=None):
    Path("assetserver.toml").write_text(text, encoding="utf-8", newline="")
    return load_settings("assetserver.toml", environ or {}, overrides or {})


def refuse(*arguments):
    with pytest.raises(SettingsError) as caught:
        load_settings(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def refuse_text(text):
    Path("assetserver.toml").write_text(text, encoding="utf-8", newline="")
    return refuse("assetserver.toml")


# Values


def test_without_file_environment_and_flags_every_setting_has_its_default():
    settings = load_settings()
    assert settings == Settings()
    assert settings.server == ServerSettings(host="127.0.0.1", port=8000, workers=1, fd=-1)
    assert settings.compression == CompressionSettings(limit_bytes=64 << 20, patience_s=0.25)
    assert settings.mounts == ()


def test_an_empty_file_is_the_defaults():
    assert load("") == Settings()


def test_environment_overrides_file_and_flags_override_both():
    text = "[server]\nhost = 'a'\nport = 1\nworkers = 2\n"
    settings = load(text, {"ASSETSERVER_SERVER__PORT": "3", "ASSETSERVER_SERVER__WORKERS": "4"}, {"server.workers": 5})
    assert (settings.server.host, settings.server.port, settings.server.workers) == ("a", 3, 5)


def test_an_array_of_tables_is_replaced_as_a_whole():
    text = '[[cache]]\nmatch = "*.css"\n[[cache]]\nmatch = "*.js"\n'
    settings = load(text, {"ASSETSERVER_CACHE": '[{"match": "*.html", "browser": "no-cache"}]'})
    assert [(rule.match, rule.browser) for rule in settings.cache] == [("*.html", "no-cache")]
    assert settings.locate("cache", 0, "match") == "ASSETSERVER_CACHE"


def test_variables_of_other_programs_are_ignored():
    assert load_settings(environ={"PATH": "/bin", "ASSETSERVERX": "1", "assetserver_server__port": "1"}) == Settings()


def test_the_file_named_by_the_environment_is_read_unless_another_is_given():
    Path("one.toml").write_text("server.port = 1", encoding="utf-8")
    Path("two.toml").write_text("server.port = 2", encoding="utf-8")
    environ = {"ASSETSERVER_CONFIG": "one.toml"}
    assert load_settings(environ=environ).server.port == 1
    assert load_settings(Path("two.toml"), environ).server.port == 2
    assert load_settings(environ={"ASSETSERVER_CONFIG": ""}) == Settings()


def test_a_byte_order_mark_is_skipped(folder):
    (folder / "assetserver.toml").write_bytes(b"\xef\xbb\xbfserver.port = 1\r\n")
    assert load_settings("assetserver.toml").server.port == 1


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("SERVER__PORT", " 9000 ", 9000),
        ("SERVER__HOST", "::1", "::1"),
        ("SERVER__UDS", "", ""),
        ("SERVER__REQUEST_ID", "Off", False),
        ("SERVER__REQUEST_ID", "1", True),
        ("SERVER__ACCESS_LOG", "json", "json"),
        ("SERVER__TRUSTED_PROXIES", "", ()),
        ("SERVER__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8,::1", ("127.0.0.1", "10.0.0.0/8", "::1")),
        ("SERVER__TRUSTED_PROXIES", '["::1"]', ("::1",)),
        ("COMPRESSION__PATIENCE_S", "0.5", 0.5),
        ("COMPRESSION__PATIENCE_S", "2", 2.0),
        ("HEADERS__CORS", "https://example.com:8443", "https://example.com:8443"),
        ("HEADERS__RESOURCE_POLICY", "", ""),
    ],
)
def test_a_variable_becomes_a_value_of_its_type(variable, text, value):
    settings = load_settings(environ={f"ASSETSERVER_{variable}": text})
    table, key = variable.lower().split("__")
    found = getattr(getattr(settings, table), key)
    assert (found, type(found)) == (value, type(value))


def test_relative_paths_resolve_against_the_folder_of_their_file(folder):
    (folder / "etc").mkdir()
    text = (
        '[server]\nuds = "run.sock"\n[compression]\ncache_directory = "/var"\n[[mounts]]\nprefix = "/"\ndirectory = "../dist"\n'
    )
    (folder / "etc/a.toml").write_text(text, encoding="utf-8")
    settings = load_settings("etc/a.toml")
    assert settings.mounts[0].directory == f"{folder}/etc/../dist"
    assert settings.server.uds == f"{folder}/etc/run.sock"
    assert settings.compression.cache_directory == "/var"


@pytest.mark.parametrize("how", ["environment", "flag"])
def test_relative_paths_outside_a_file_resolve_against_the_working_directory(folder, how):
    if how == "environment":
        settings = load_settings(environ={"ASSETSERVER_MOUNTS": '[{"prefix":"/","directory":"dist"}]'})
    else:
        settings = load_settings(overrides={"mounts": [{"prefix": "/", "directory": "dist"}]})
    assert settings.mounts == (MountSettings(prefix="/", directory=f"{folder}/dist"),)


def test_a_relative_path_without_a_working_directory_is_refused(folder, monkeypatch):
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert refuse(None, {"ASSETSERVER_SERVER__UDS": "a.sock"}) == (
        "ASSETSERVER_SERVER__UDS: server.uds is relative, but the working directory is gone; give an absolute path"
    )


def test_the_host_of_a_mount_is_made_lower_case():
    settings = load('[[mounts]]\nprefix = "/"\ndirectory = "a"\nhost = "WWW.Example.COM"\n')
    assert settings.mounts[0].host == "www.example.com"


def test_the_same_prefix_may_serve_two_hosts():
    mount = '[[mounts]]\nprefix = "/"\ndirectory = "a"\nhost = "{}.example"\n'
    assert [m.host for m in load(mount.format("a") + mount.format("b")).mounts] == ["a.example", "b.example"]


@pytest.mark.parametrize("prefix", ["/", "/static", "/static/v1", "/a b", "/ü", "/..a"])
def test_a_prefix_is_a_plain_absolute_path(prefix):
    assert load(f'[[mounts]]\nprefix = "{prefix}"\ndirectory = "a"\n').mounts[0].prefix == prefix


@pytest.mark.parametrize(
    "prefix", ["", "a", "/a/", "//", "/a//b", "/./a", "/a/..", "/a?b", "/a#", "/%61", "/a\\n", "/a\\u0000"]
)
def test_any_other_prefix_is_refused(prefix):
    message = refuse_text(f'[[mounts]]\nprefix = "{prefix}"\ndirectory = "a"\n')
    assert message == (
        f'assetserver.toml:2: mounts[0].prefix is "{prefix}"; it must start with "/", not end with it, '
        'and have no "?", "#", "%", "{", "}", empty, "." or ".." segment'
    )


@pytest.mark.parametrize("path", ["/a.html", "../a.html", "a/../b", "a/", "./a", "a\\u0000"])
def test_a_fallback_outside_its_directory_is_refused(path):
    message = refuse_text(f'[[mounts]]\nprefix = "/"\ndirectory = "a"\nfallback = "{path}"\n')
    assert message == (
        f'assetserver.toml:4: mounts[0].fallback is "{path}"; it must be a path inside the directory, such as "index.html"'
    )


def test_settings_that_came_from_different_places_are_equal():
    assert load("server.port = 1") == load_settings(overrides={"server.port": 1})


def test_settings_and_their_sources_survive_pickling_for_worker_processes():
    settings = load('[[cache]]\nmatch = "*"\n')
    copy = pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own bytes
    assert (copy, copy.sources) == (settings, settings.sources)


# Places


def test_every_value_can_be_located():
    text = '[server]\n\nport = 1\n[[cache]]\nmatch = "a"\n[[cache]]\nmatch = "b"\nbrowser = "no-cache"\n[cdn]\n'
    settings = load(text, {"ASSETSERVER_SERVER__FD": "3"}, {"server.keep_alive_s": 5, "memory.limit_bytes": 1})
    assert settings.locate("server", "port") == "assetserver.toml:3"
    assert settings.locate("cache", 1, "browser") == "assetserver.toml:8"
    assert settings.locate("cache", 0, "browser") == "assetserver.toml:4"
    assert settings.locate("cdn", "profile") == "assetserver.toml:9"
    assert settings.locate("server", "fd") == "ASSETSERVER_SERVER__FD"
    assert settings.locate("server", "keep_alive_s") == "--keep-alive-s"
    assert settings.locate("memory", "limit_bytes") == "--memory-limit-bytes"
    assert settings.locate("headers", "cors") == "default"


def test_mounts_of_the_command_line_are_located_there():
    settings = load("", overrides={"mounts": [{"prefix": "/", "directory": "a"}]})
    assert settings.locate("mounts", 0, "directory") == "command line"


DOCUMENT = '''# [not.a.table]
top = """
[not]
a = "" \\"""" # two quotes and the end
"a.b"."c\\u0020d" = 1
[ one . 'two' ]  # comment
x = [ # an array
  "]", # ] not the end
  { y = [1, 2], z = "}" },

  [3],
]
y = { a = 1, b = { c = 2 } }
[[list]]
k = \'\'\'
[[list]]
k = 2\'\'\'\'\'
[[list]]
d = 1979-05-27 07:32:00
[list.inner]
f = 3.14
[[list.deep]]
g = 1
[[list.deep]]
g = -inf
[[list]]
[[list.deep]]
h = true
'''


def test_the_scanner_finds_the_line_of_each_key():
    lines = scan_lines(DOCUMENT)
    tomllib.loads(DOCUMENT)
    assert lines == {
        ("top",): 2,
        ("a.b",): 5,
        ("a.b", "c d"): 5,
        ("one",): 6,
        ("one", "two"): 6,
        ("one", "two", "x"): 7,
        ("one", "two", "x", 0): 8,
        ("one", "two", "x", 1): 9,
        ("one", "two", "x", 2): 11,
        ("one", "two", "y"): 13,
        ("list",): 14,
        ("list", 0): 14,
        ("list", 0, "k"): 15,
        ("list", 1): 18,
        ("list", 1, "d"): 19,
        ("list", 1, "inner"): 20,
        ("list", 1, "inner", "f"): 21,
        ("list", 1, "deep"): 22,
        ("list", 1, "deep", 0): 22,
        ("list", 1, "deep", 0, "g"): 23,
        ("list", 1, "deep", 1): 24,
        ("list", 1, "deep", 1, "g"): 25,
        ("list", 2): 26,
        ("list", 2, "deep"): 27,
        ("list", 2, "deep", 0): 27,
        ("list", 2, "deep", 0, "h"): 28,
    }


def test_lines_that_end_as_on_windows_count_once():
    assert scan_lines(DOCUMENT.replace("\n", "\r\n")) == scan_lines(DOCUMENT)


KEYS = st.sampled_from(["a", "b", '"q.#"', "'['", "1"])
VALUES = st.sampled_from(
    ["1", "-0.5", "'x'", '"]"', '"""\n[a]\n"\n"""', "'''\nb = ''\n'''", "[1,\n2, # ]\n]", "{a = [1, '}'], b.c = 2}", "[[], {}]"]
)
STATEMENTS = st.lists(
    st.one_of(
        st.builds(lambda keys, value: f"{'.'.join(keys)} = {value}", st.lists(KEYS, min_size=1, max_size=2), VALUES),
        st.builds(lambda keys: f"[{'.'.join(keys)}]", st.lists(KEYS, min_size=1, max_size=3)),
        st.builds(lambda keys: f"[[{'.'.join(keys)}]]", st.lists(KEYS, min_size=1, max_size=2)),
        st.just("# [c]"),
    ),
    max_size=12,
).map("\n".join)


def tables_of(value, location=()):
    """Every location of a document outside inline tables and arrays of plain values: what the scanner must know."""
    yield location
    if isinstance(value, dict):
        for key, child in value.items():
            yield from tables_of(child, (*location, key))
    if isinstance(value, list):
        yield from ((*location, index) for index in range(len(value)))


@limits(max_examples=300, deadline=None)
@given(STATEMENTS)
def test_the_scanner_knows_every_key_of_any_valid_document(text):
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = scan_lines(text)
    known = set(tables_of(tree)) - {()}
    inline = {location for location in known if location[:-1] in lines and location not in lines}
    assert {location for location in known if not any(location[: len(i)] == i for i in inline)} <= set(lines)
    for location in inline:  # only what stands inside an inline table is not told apart
        assert "{" in text.splitlines()[lines[location[:-1]] - 1]
    for location, line in lines.items():
        value = tree
        for part in location:
            value = value[part]  # every location found exists
        assert 1 <= line <= text.count("\n") + 1


# Refusals

TOP = 'known: "sites", "mounts", "cache", "collections", "purge", "server.", "data.", "publish.", "deltas.", "previews.", '
TOP += '"cdn.", "headers.", "compression.", "memory.", "uploads.", "images.", "database.", "access.", "jobs.", "webhooks."'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n[server]\n\n\n\nprot = 1", '7: unknown key "prot" in [server]; did you mean "port"?'),
        ("\n[server]\nport = 70000", "3: server.port is 70000; it must be between 0 and 65535"),
        ("server.port = -1", "1: server.port is -1; it must be between 0 and 65535"),
        ("[server]\nzzz = 1", ('2: unknown key "zzz" in [server]; known: "host", "port", "public_url", "uds", "fd", '
         '"tls_certificate", "tls_key", "http2", "workers", '
         '"access_log", "access_log_file", "log_format", "keep_alive_s", "graceful_shutdown_s", "stuck_s", "connection_limit", '
         '"address_connection_limit", "minimum_send_bytes_per_s", "trusted_proxies", "forwarded_fields", '
         '"forwarded_host", "proxy_protocol", "request_id"')),
        ('[cdn]\n"pro\\nfile" = 1', '2: unknown key "pro\\nfile" in [cdn]; did you mean "profile"?'),
        ("[servr]\nport = 1", '1: unknown table "servr"; did you mean "server"?'),
        ("[zzz]", ('1: unknown table "zzz"; known: "server", "data", "publish", "deltas", "previews", "sites", "mounts", '
         '"cache", "cdn", "headers", "compression", "memory", "uploads", "collections", "images", "database", "access", '
         '"jobs", "webhooks", "purge"')),
        ("port = 1", '1: unknown key "port"; did you mean "server.port"?'),
        ("prot = 1", '1: unknown key "prot"; did you mean "server.port"?'),
        ("zzz = 1", f'1: unknown key "zzz"; {TOP}'),
        ("server = 1", "1: expected a table for server, got an integer"),
        ("[[server]]", "1: expected a table for server, got an array"),
        ("[mounts]", "1: expected an array of tables for mounts, got a table"),
        ("\nmounts = [\n1]", "3: expected a table for mounts[0], got an integer"),
        ('[[mounts]]\nprefix = "/"\ndirectory = 7', "3: expected a string for mounts[0].directory, got an integer"),
        ('[[mounts]]\nprefix = "/"', "1: mounts[0] has no directory; it must name a folder"),
        ('[[mounts]]\nprefx = "/"', '2: unknown key "prefx" in [[mounts]]; did you mean "prefix"?'),
        ('[[mounts]]\nprefix = "/"\ndirectory = ""', '3: mounts[0].directory is ""; it must name a folder'),
        ('[[mounts]]\nprefix="/"\ndirectory="a"\nhost="a.example:80"',
         '4: mounts[0].host is "a.example:80"; it must be a host name without port'),
        ('[[mounts]]\nprefix="/a"\ndirectory="a"\n[[mounts]]\nprefix="/a"\ndirectory="b"',
         '4: mounts[1] and mounts[0] (assetserver.toml:1) have the same host and prefix, "/a"; change one of them'),
        ('[[mounts]]\nprefix="/"\ndirectory="a"\nhost="A.b"\n[[mounts]]\nprefix="/"\ndirectory="b"\nhost="a.b"',
         '5: mounts[1] and mounts[0] (assetserver.toml:1) have the same host and prefix, "a.b/"; change one of them'),
        ('[[sites]]\n[[mounts]]\nprefix="/"\ndirectory="b"',
         '2: mounts[0] and sites[0] (assetserver.toml:1) have the same host and prefix, "/"; change one of them'),
        ("[server]\nport = true", "2: expected an integer for server.port, got a boolean"),
        ("[server]\nport = 1.0", "2: expected an integer for server.port, got a float"),
        ("[server]\nport = 07:32:00", "2: expected an integer for server.port, got a date or time"),
        ("[server]\nrequest_id = 1", "2: expected true or false for server.request_id, got an integer"),
        ("[server]\nrequest_id = 'yes'", "2: expected true or false for server.request_id, got a string"),
        ("[compression]\npatience_s = 'x'", "2: expected a number for compression.patience_s, got a string"),
        ("[compression]\npatience_s = nan", "2: compression.patience_s is nan; it must be between 0 and 10"),
        ("[compression]\nminimum_bytes = 2000000",
         "2: compression.minimum_bytes is 2000000; it must be between 0 and 1048576 (1 MiB)"),
        ("[server]\ntrusted_proxies = '::1'", "2: expected an array of strings for server.trusted_proxies, got a string"),
        ("[server]\ntrusted_proxies = [\n'::1',\n1]", "4: expected a string for server.trusted_proxies[1], got an integer"),
        ("[server]\ntrusted_proxies = ['10.0.0.1/8']", ('2: server.trusted_proxies[0] is "10.0.0.1/8"; '
         'it must be "unix", an IP address or a network such as "10.0.0.0/8"')),
        ("[server]\naccess_log = 'full'", '2: server.access_log is "full"; it must be "combined", "json", "journald" or "off"'),
        ("[server]\nhost = ''", '2: server.host is ""; it must be a host name or IP address, such as "127.0.0.1"'),
        ('[server]\nuds = "\\u0000"', '2: server.uds is "\\u0000"; it must be a path without null characters'),
        ('[[cache]]\nmatch = ""', '2: cache[0].match is ""; it must be a glob such as "*.html" or "/docs/**"'),
        ('[[cache]]\nmatch = "*"\nbrowser = "a\\r\\nb"',
         '3: cache[0].browser is "a\\r\\nb"; it must be a field value such as "max-age=3600"'),
        ('[[cache]]\nmatch = "*"\ntags = ["a b"]',
         '3: cache[0].tags[0] is "a b"; it must be printable ASCII without space or comma'),
        ("[headers]\ncors = 'https://a.example/'", ('2: headers.cors is "https://a.example/"; '
         'it must be "", "*" or one lower-case origin such as "https://example.com"')),
        ("[server]\npublic_url = 'https://a.example/'", ('2: server.public_url is "https://a.example/"; '
         'it must be "" or a lower-case origin such as "https://www.example.com", without a path')),
        ("[server]\npublic_url = 'http://a:65536'", ('2: server.public_url is "http://a:65536"; '
         'it must be "" or a lower-case origin such as "https://www.example.com", without a path')),
        ("[server]\nport = 0x" + "f" * 9000, f"2: server.port is 0x{'f' * 77}…; it must be between 0 and 65535"),
        ("[server]\nport = 1\nport 2", "3: not TOML at column 6: expected '=' after a key in a key/value pair"),
        ("[server]\nport =", "2: not TOML at column 7: invalid value"),
        ("a = '''\n\n", "3: not TOML at column 1: expected \"'''\""),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_line_the_fact_and_the_remedy(text, message):
    assert refuse_text(text) == f"assetserver.toml:{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "9" * 9000, "a number has too many digits; write a smaller one"),
        ("a = " + "[" * 9000, "arrays or tables are nested too deeply; write them flatter"),
    ],
)
def test_a_file_beyond_what_can_be_parsed_is_refused(text, message):
    assert refuse_text(text) == f"assetserver.toml: {message}"


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("SERVER__PROT", "1", "unknown setting; did you mean ASSETSERVER_SERVER__PORT?"),
        ("SERVER_PORT", "1", "unknown setting; did you mean ASSETSERVER_SERVER__PORT?"),
        ("PORT", "1", "unknown setting; did you mean ASSETSERVER_SERVER__PORT?"),
        ("server__port", "1", "unknown setting; did you mean ASSETSERVER_SERVER__PORT?"),
        ("SERVR__PORT", "1", "unknown setting; did you mean ASSETSERVER_SERVER__PORT?"),
        ("MOUNT", "1", "unknown setting; did you mean ASSETSERVER_MOUNTS?"),
        ("MOUNTS__0__PREFIX", "1", "unknown setting; did you mean ASSETSERVER_MOUNTS?"),
        ("CDN__ZZZ", "1", "unknown setting; known: ASSETSERVER_CDN__PROFILE"),
        ("ZZZ", "1", ("unknown setting; known: ASSETSERVER_SITES, ASSETSERVER_MOUNTS, ASSETSERVER_CACHE, "
         "ASSETSERVER_COLLECTIONS, ASSETSERVER_PURGE, "
         "ASSETSERVER_SERVER__, ASSETSERVER_DATA__, ASSETSERVER_PUBLISH__, ASSETSERVER_DELTAS__, "
         "ASSETSERVER_PREVIEWS__, ASSETSERVER_CDN__, "
         "ASSETSERVER_HEADERS__, ASSETSERVER_COMPRESSION__, ASSETSERVER_MEMORY__, "
         "ASSETSERVER_UPLOADS__, ASSETSERVER_IMAGES__, ASSETSERVER_DATABASE__, ASSETSERVER_ACCESS__, "
             "ASSETSERVER_JOBS__, ASSETSERVER_WEBHOOKS__")),
        ("SERVER__PORT", "http", 'expected an integer for server.port, got "http"'),
        ("SERVER__PORT", "", 'expected an integer for server.port, got ""'),
        ("SERVER__PORT", "70000", "server.port is 70000; it must be between 0 and 65535"),
        ("SERVER__REQUEST_ID", "maybe", 'expected true or false for server.request_id, got "maybe"'),
        ("COMPRESSION__PATIENCE_S", "inf", "compression.patience_s is inf; it must be between 0 and 10"),
        ("SERVER__TRUSTED_PROXIES", "[", 'expected an array of strings in JSON for server.trusted_proxies, got "["'),
        ("SERVER__TRUSTED_PROXIES", "::1,me", ('server.trusted_proxies[1] is "me"; '
         'it must be "unix", an IP address or a network such as "10.0.0.0/8"')),
        ("MOUNTS", "dist", 'expected an array of tables in JSON for mounts, got "dist"'),
        ("MOUNTS", "{}", "expected an array of tables for mounts, got a table"),
        ("MOUNTS", "[null]", "expected a table for mounts[0], got null"),
        ("MOUNTS", '[{"prefix": "/"}]', "mounts[0] has no directory; it must name a folder"),
        ("MOUNTS", '[{"prefix": "/", "directry": "a"}]', 'unknown key "directry" in [[mounts]]; did you mean "directory"?'),
        ("CACHE", "[" * 99999, f'expected an array of tables in JSON for cache, got "{"[" * 78}…'),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_refused_by_its_name(variable, text, message):
    assert refuse(None, {f"ASSETSERVER_{variable}": text}) == f"ASSETSERVER_{variable}: {message}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"server.port": 70000}, "--port: server.port is 70000; it must be between 0 and 65535"),
        ({"server.port": "80"}, "--port: expected an integer for server.port, got a string"),
        ({"server.host": Path("a")}, "--host: expected a string for server.host, got PosixPath"),
        ({"server.prot": 80}, 'command line: unknown setting "server.prot"; did you mean "server.port"?'),
        ({"mounts": [{"prefix": "/"}]}, "command line: mounts[0] has no directory; it must name a folder"),
    ],
)
def test_a_wrong_flag_is_refused_by_its_name(overrides, message):
    assert refuse(None, {}, overrides) == message


def test_a_file_that_cannot_be_read_is_refused_with_what_named_it(folder):
    (folder / "latin.toml").write_bytes(b"# ok\n# caf\xe9\n")
    variable = {"ASSETSERVER_CONFIG": "none.toml"}
    assert refuse(None, variable) == "none.toml: no such file; create it or correct ASSETSERVER_CONFIG"
    assert refuse("none.toml") == "none.toml: no such file; create it or correct --config"
    assert refuse("") == '"": no such file; create it or correct --config'
    assert refuse(str(folder)) == f"{folder}: is a directory; name the TOML file in it with --config"
    assert refuse("a\0b") == "a\\x00b: is not a possible file name; correct --config"
    assert refuse("latin.toml") == "latin.toml:2: byte 0xe9 is not UTF-8; save the file as UTF-8"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(folder):
    (folder / "secret.toml").touch(mode=0)
    assert refuse("secret.toml") == "secret.toml: cannot be read (Permission denied); allow it or correct --config"


def test_a_file_that_fails_while_it_is_read_is_refused():
    path = "/proc/self/mem"  # opens, and has nothing at address 0
    assert refuse(path) == f"{path}: cannot be read (Input/output error); allow it or correct --config"


def test_a_file_name_that_breaks_lines_is_escaped(folder):
    (folder / "a\nb.toml").write_text("port = 1", encoding="utf-8")
    assert refuse("a\nb.toml").startswith('a\\nb.toml:1: unknown key "port"')


FRAGMENTS = st.lists(
    st.sampled_from(
        ["[", "]", "[[mounts]]", "[server]", "port", "=", "1", "'", '"', '"""', "\n", "\r\n", ".", "{", "}", ",", "\\", "#",
         "prefix", '"/"', "directory", "mounts", "cache", "0x" + "f" * 5000, "9" * 5000, "nan", "1979-05-27",
         "\ud800", "\0", "\ufeff"]
    )
).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))  # fmt: skip


@limits(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=200), FRAGMENTS, STATEMENTS.map(str.encode)))
@example(b"[server]\nport=0x" + b"f" * 9000)
@example(b"compression.patience_s=" + b"9" * 400)
@example(b"[[mounts.a]]\n[mounts]")
def test_any_bytes_in_the_file_give_settings_or_a_settings_error(content):
    Path("any.toml").write_bytes(content)
    try:
        assert isinstance(load_settings("any.toml"), Settings)
    except SettingsError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either outcome is right


ROWS = describe_settings()
VARIABLES = sorted(
    {"ASSETSERVER_" + row.name.partition("[]")[0].replace(".", "__").upper() for row in ROWS} | {"ASSETSERVER_CONFIG"}
)
JSON = st.sampled_from(
    ['[{"prefix":"/","directory":"a"}]', '[{"match":"\\ud800"}]', '[{"prefix":[]}]', "[1e999]", '["a"', "null", "9" * 5000]
)


@limits(max_examples=400, deadline=None)
@given(
    st.dictionaries(
        st.one_of(st.sampled_from(VARIABLES), st.text(max_size=9).map("ASSETSERVER_{}".format)), st.one_of(st.text(), JSON)
    )
)
@example({"ASSETSERVER_SERVER__PORT": "\ud800"})
@example({"ASSETSERVER_\ud800\n": ""})
@example({"ASSETSERVER_CONFIG": "\ud800\0"})
@example({"ASSETSERVER_COMPRESSION__PATIENCE_S": "1" * 400})
def test_any_environment_gives_settings_or_a_settings_error(environ):
    try:
        assert isinstance(load_settings(environ=environ), Settings)
    except SettingsError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either outcome is right


# The table


def test_every_setting_is_described_in_one_line_with_its_default():
    rows = {row.name: row for row in ROWS}
    assert len(rows) == len(ROWS)
    assert all(row.type and row.default and row.description.endswith(".") for row in ROWS)
    assert not [row for row in ROWS if "\n" in "".join(row)]
    assert rows["server.port"][1:4] == ("integer", "8000", "between 0 and 65535")
    assert rows["server.access_log"][1:4] == ("string", '"combined"', '"combined", "json", "journald" or "off"')
    assert rows["server.trusted_proxies"][1:3] == ("array of strings", "[]")
    assert rows["server.request_id"][1:4] == ("boolean", "true", "")
    assert rows["mounts[].prefix"].default == "required"
    assert rows["memory.limit_bytes"][2:4] == ("67108864 (64 MiB)", "between 0 and 68719476736 (64 GiB)")
    assert rows["compression.patience_s"].default == "0.25"


def test_every_number_has_limits():
    assert not [row.name for row in ROWS if row.type in ("integer", "float") and not row.limits.startswith("between ")]


def test_every_default_is_accepted_as_a_setting():
    lines = [f"{row.name} = {row.default.partition(' (')[0]}" for row in ROWS if "[]" not in row.name]
    assert load("\n".join(lines)) == Settings()


def test_the_settings_need_no_web_framework():
    program = f"""
import sys, types
package = sys.modules["assetserver"] = types.ModuleType("assetserver")
package.__path__ = [{str(PACKAGE)!r}]
import assetserver.settings
print(sorted({{"starlette", "uvicorn", "anyio", "asyncio"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Records and webhooks

GOOD_SECRET = "whsec_" + "A" * 32


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("sqlite", True),
        ("sqlite:////var/lib/records.db", True),
        ("postgresql://me:word@db.internal:5433/records?sslmode=require", True),
        ("postgresql://me@/records?host=/run/postgresql", True),
        ("postgresql://host/", False),
        ("postgresql://host:port/name", False),
        ("postgresql://[/name", False),
        ("postgresql://a b/name", False),
        ("mysql://host/name", False),
        ("sqlite:///", False),
        ("", False),
    ],
)
def test_records_are_kept_in_sqlite_or_postgresql(url, accepted):
    variables = {"ASSETSERVER_DATABASE__URL": url}
    if accepted:
        assert load_settings(None, variables).database.url == url
    else:
        assert '; it must be "sqlite", "sqlite:///PATH" or "postgresql://USER@HOST/NAME"' in refuse(None, variables)


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("", True),
        ("https://example.com", True),
        ("http://127.0.0.1:9000/hooks/1?key=a%20b", True),
        ("https://user:word@[::1]:9/", True),
        ("ftp://example.com", False),
        ("https://", False),
        ("https://example.com/a b", False),
        ("https://example.com/#a", False),
        ("https://example.com\n", False),
    ],
)
def test_events_go_to_a_url_of_http(url, accepted):
    variables = {"ASSETSERVER_WEBHOOKS__URL": url, "ASSETSERVER_WEBHOOKS__SECRETS": GOOD_SECRET}
    if accepted:
        assert load_settings(None, variables).webhooks.url == url
    else:
        assert 'it must be "" or a URL such as "https://example.com/hooks"' in refuse(None, variables)


@pytest.mark.parametrize("secret", ["A" * 32, "whsec_", "whsec_AAAA", "whsec_" + "A" * 88, "whsec_" + "ä" * 32, "whsec_A"])
def test_what_is_no_secret_of_webhooks_is_refused(secret):
    assert "24 to 64 random bytes in base64" in refuse(None, {"ASSETSERVER_WEBHOOKS__SECRETS": secret})


def test_events_that_nothing_signs_are_refused_with_the_remedy():
    message = refuse_text('[webhooks]\nurl = "https://example.com"\n')
    assert message.startswith(
        "assetserver.toml:2: webhooks.url is set, and nothing signs what is sent there; add webhooks.secrets"
    )


# Credentials


@pytest.fixture
def credential(tmp_path):
    """``credential(name, text)`` writes one; ``credential.environ`` leads to all."""

    def write(name: str, text: str) -> dict[str, str]:
        folder = tmp_path / "credentials"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        return {"CREDENTIALS_DIRECTORY": str(folder)}

    return write


def test_credentials_override_the_file_and_variables_override_them(credential):
    first, second = f"a:{'x' * 40}", f"b:{'y' * 40}"
    environ = credential("access.keys", f"{first}\n{second}\n")
    credential("database.url", "postgresql://me:word@host/name\n")
    credential("server.port", "9000")
    settings = load(f'[access]\nkeys = ["c:{"z" * 40}"]', environ)
    assert settings.access.keys == (first, second)
    assert settings.database.url == "postgresql://me:word@host/name"
    assert settings.server.port == 9000
    assert settings.locate("access", "keys") == "credential access.keys"
    assert load("", {**environ, "ASSETSERVER_SERVER__PORT": "7"}).server.port == 7


def test_empty_credentials_and_those_of_others_count_for_nothing(credential):
    environ = credential("access.keys", "\n")
    credential("tls.key", "…")
    credential("purge-edge", "…")
    assert load("", environ) == load("")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("access.keys", "a:short", 'credential access.keys: access.keys[0] is …; it must be "NAME:SECRET"'),
        ("database.url", "mysql://me:word@host", 'credential database.url: database.url is "mysql://…@host"; it must be'),
        ("server.port", "word", "credential server.port: expected an integer for server.port, got …"),
        ("access.kyes", "x", 'credential "access.kyes": access has no such setting; did you mean "keys"?'),
    ],
)
def test_a_wrong_credential_is_told_and_not_shown(credential, name, text, says):
    with pytest.raises(SettingsError) as caught:
        load("", credential(name, text))
    assert says in str(caught.value)
    assert text not in str(caught.value).replace(name, "") or text == "x"


@pytest.mark.parametrize("variable", ["ASSETSERVER_ACCESS__KEYS", "ASSETSERVER_WEBHOOKS__SECRETS"])
def test_a_secret_in_a_variable_is_not_shown_either(variable):
    for text in ("[word", "word,word"):
        with pytest.raises(SettingsError) as caught:
            load("", {variable: text})
        assert "word" not in str(caught.value)


def test_credentials_that_cannot_be_read_are_told(tmp_path, credential):
    with pytest.raises(SettingsError, match="nowhere cannot be read"):
        load("", {"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere")})
    environ = credential("access.keys", "")
    (tmp_path / "credentials" / "access.keys").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="it is not UTF-8"):
        load("", environ)
