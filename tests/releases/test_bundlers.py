"""What bundlers declare: hashed names, with the reason; and the chunks of an entry. Whatever else lies there says nothing."""

import json
import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assetserver.releases import bundlers
from assetserver.releases.bundlers import EntryChunks, PlaceOf, declared_names
from assetserver.releases.examine import examine
from assetserver.releases.facts import Preload

VITE = {
    "index.html": {
        "file": "assets/index-C3wrgTdA.js",
        "name": "index",
        "src": "index.html",
        "isEntry": True,
        "imports": ["_vendor-Bq9nTXYz.js"],
        "dynamicImports": ["src/details.tsx"],
        "css": ["assets/index-n_ryQ3BS.css"],
        "assets": ["assets/logo-BmSLt7sm.svg"],
    },
    "_vendor-Bq9nTXYz.js": {"file": "assets/vendor-Bq9nTXYz.js", "name": "vendor", "imports": ["_react-CPdiUi_T.js"]},
    "_react-CPdiUi_T.js": {"file": "assets/react-CPdiUi_T.js", "name": "react", "imports": ["_vendor-Bq9nTXYz.js"]},
    "src/details.tsx": {
        "file": "assets/details-DQ8wx1yz.js",
        "name": "details",
        "src": "src/details.tsx",
        "isDynamicEntry": True,
        "imports": ["index.html"],
    },
    "src/logo.svg": {"file": "assets/logo-BmSLt7sm.svg", "src": "src/logo.svg"},
}
VITE_FILES = {
    "index.html",
    "assets/index-C3wrgTdA.js",
    "assets/vendor-Bq9nTXYz.js",
    "assets/react-CPdiUi_T.js",
    "assets/details-DQ8wx1yz.js",
    "assets/index-n_ryQ3BS.css",
    "assets/logo-BmSLt7sm.svg",
}


def below(folder: Path) -> PlaceOf:
    return partial(os.path.join, folder)


def write(folder: Path, name: str, value: object) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())


@pytest.mark.parametrize("manifest", [".vite/manifest.json", "manifest.json"])
def test_vite_declares_every_file_with_a_hash(tmp_path, manifest):
    write(tmp_path, manifest, VITE)
    expected = dict.fromkeys(sorted(VITE_FILES - {"index.html"}), f"declared by {manifest}")
    assert declared_names(below(tmp_path), VITE_FILES) == expected


def test_manifest_of_laravel_names_files_beside_it(tmp_path):
    write(tmp_path, "build/manifest.json", {"app.js": {"file": "assets/app-4f2a9c01.js", "src": "app.js", "isEntry": True}})
    files = {"build/assets/app-4f2a9c01.js", "index.php"}
    assert declared_names(below(tmp_path), files) == {"build/assets/app-4f2a9c01.js": "declared by build/manifest.json"}


def test_names_without_a_hash_are_never_declared(tmp_path):
    chunks = {
        "main.ts": {"file": "assets/main.js", "name": "main", "src": "main.ts", "css": ["assets/main.css"]},
        "my.ts": {"file": "assets/my-4f2a9c01.js", "name": "my-4f2a9c01", "src": "my-4f2a9c01.ts"},
        "a.ts": {"file": "assets/a-legacy.js", "name": "a", "src": "a.ts", "css": ["assets/a-20261122.css"]},
    }
    write(tmp_path, ".vite/manifest.json", chunks)
    files = {"assets/main.js", "assets/main.css", "assets/my-4f2a9c01.js", "assets/a-legacy.js", "assets/a-20261122.css"}
    assert declared_names(below(tmp_path), files) == {}


def test_names_that_the_release_does_not_hold_are_ignored(tmp_path):
    write(tmp_path, ".vite/manifest.json", {"a": {"file": "../../etc/passwd-4f2a9c01"}, "b": {"file": "assets/b-4f2a9c01.js"}})
    assert declared_names(below(tmp_path), {"index.html"}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "static/js/main.4f2a9c01.js",
        "/static/js/main.4f2a9c01.js",
        "/app/static/js/main.4f2a9c01.js",
        "./static/js/main.4f2a9c01.js",
        "auto/static/js/main.4f2a9c01.js",
        "https://cdn.example.test/static/js/main.4f2a9c01.js?x",
        "//cdn.example.test/app/static/js/main.4f2a9c01.js",
    ],
)
def test_webpack_names_may_have_a_public_path(tmp_path, name):
    write(tmp_path, "manifest.json", {"main.js": name, "index.html": "/index.html"})
    files = {"index.html", "static/js/main.4f2a9c01.js"}
    assert declared_names(below(tmp_path), files) == {"static/js/main.4f2a9c01.js": "declared by manifest.json"}


def test_create_react_app_declares_its_files(tmp_path):
    names = {
        "main.css": "/static/css/main.f855e6bc.css",
        "main.js": "/static/js/main.4f2a9c01.js",
        "static/js/787.28cb0dcd.chunk.js": "/static/js/787.28cb0dcd.chunk.js",
        "static/media/logo.svg": "/static/media/logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg",
        "index.html": "/index.html",
        "main.js.map": "/static/js/main.4f2a9c01.js.map",
    }
    write(tmp_path, "asset-manifest.json", {"files": names, "entrypoints": ["static/css/main.f855e6bc.css"]})
    files = {one.lstrip("/") for one in names.values()}
    assert set(declared_names(below(tmp_path), files)) == files - {"index.html"}


def test_stats_of_webpack_declare_its_assets(tmp_path):
    assets = [{"name": "main.4f2a9c01d2e3f4a5b6c7.js", "info": {"immutable": True}}, {"name": "index.html", "info": {}}]
    write(tmp_path, "stats.json", {"hash": "4f2a", "publicPath": "auto", "assets": assets, "modules": [{"id": 1}]})
    files = {"main.4f2a9c01d2e3f4a5b6c7.js", "index.html"}
    assert declared_names(below(tmp_path), files) == {"main.4f2a9c01d2e3f4a5b6c7.js": "declared by stats.json"}


@pytest.mark.parametrize("name", ["meta.json", "metafile.json"])
def test_esbuild_names_come_with_the_folder_of_the_build(tmp_path, name):
    outputs = {
        "dist/app.js": {"imports": [], "entryPoint": "src/app.ts", "bytes": 10},
        "dist/app-7RZ3QK2A.css": {"bytes": 3},
        "dist/chunk-BHFKLMNQ.js": {"bytes": 3},
        "dist/logo-XUUPKMKQ.svg": {"inputs": {"src/logo.svg": {"bytesInOutput": 3}}},
        "dist/shared-TEMPLATE.js": {"inputs": {"src/a.ts": {}, "src/b.ts": {}}},
        "dist/my-TEMPLATE.js": {"bytes": 3, "entryPoint": "src/my-TEMPLATE.ts"},
    }
    write(tmp_path, name, {"inputs": {"src/app.ts": {"bytes": 1}}, "outputs": outputs})
    files = {one.removeprefix("dist/") for one in outputs}
    hashed = ("app-7RZ3QK2A.css", "chunk-BHFKLMNQ.js", "logo-XUUPKMKQ.svg")
    assert declared_names(below(tmp_path), files) == dict.fromkeys(hashed, f"declared by {name}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b"\xff\xfe{}",
        b'{"a": NaN}',
        b'{"a": {"file": 1}}',
        b'{"a": {"file": "a", "css": "b"}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"files":' * 50_000,
        b'{"a": {"file": "a-4f2a9c01.js", "x": ' + b"[" * 100_000,
        b'{"a": "\\ud800"}',
        b'{"assets": [{"name": 4}]}',
        b'{"name": "App", "start_url": "/", "display": "standalone", "icons": [{"src": "a-4f2a9c01.js"}]}',
        b'{"name": "App", "short_name": "A", "start_url": "."}',
    ],
)
def test_a_file_that_is_something_else_says_nothing(tmp_path, content):
    for name in (".vite/manifest.json", "manifest.json", "asset-manifest.json", "stats.json", "meta.json"):
        write(tmp_path, name, content)
    assert declared_names(below(tmp_path), {"a-4f2a9c01.js"}) == {}
    assert EntryChunks(below(tmp_path)).preloads_of("index.html", examine("html", PAGE)) == ()


def test_what_cannot_be_read_says_nothing(tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    (tmp_path / "stats.json").mkdir()
    (tmp_path / "meta.json").symlink_to(tmp_path / "nowhere")
    assert declared_names(below(tmp_path), {"a-4f2a9c01.js"}) == {}
    assert declared_names(below(tmp_path / "missing"), {"a-4f2a9c01.js"}) == {}


def test_a_manifest_over_the_limit_is_not_read(tmp_path, monkeypatch):
    write(tmp_path, "manifest.json", VITE)
    monkeypatch.setattr(bundlers, "LIMIT_BYTES", (tmp_path / "manifest.json").stat().st_size)
    assert declared_names(below(tmp_path), VITE_FILES)
    monkeypatch.setattr(bundlers, "LIMIT_BYTES", (tmp_path / "manifest.json").stat().st_size - 1)
    assert declared_names(below(tmp_path), VITE_FILES) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a-4f2a9c01.js", "/x/a-4f2a9c01.js"]),
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(
            st.sampled_from(["file", "files", "assets", "name", "outputs", "imports", "css", "a"]), one, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON)
def test_only_hashed_files_of_the_release_are_ever_declared(tmp_path, value):
    for name in ("manifest.json", "stats.json", "meta.json"):
        write(tmp_path, name, value)
    assert set(declared_names(below(tmp_path), {"a-4f2a9c01.js", "a.js"})) <= {"a-4f2a9c01.js"}


PAGE = b'<head><script type="module" crossorigin src="/app/assets/index-C3wrgTdA.js"></script></head>'


def test_chunks_of_an_entry_are_written_as_the_page_writes_its_script(tmp_path):
    write(tmp_path, ".vite/manifest.json", VITE)
    assert EntryChunks(below(tmp_path)).preloads_of("index.html", examine("html", PAGE), mount="/app/") == (
        Preload("/app/assets/vendor-Bq9nTXYz.js", "modulepreload", "", ""),
        Preload("/app/assets/react-CPdiUi_T.js", "modulepreload", "", ""),
    )
    relative = b"<script type=module src=../assets/index-C3wrgTdA.js></script>"
    assert EntryChunks(below(tmp_path)).preloads_of("docs/index.html", examine("html", relative)) == (
        Preload("../assets/vendor-Bq9nTXYz.js", "modulepreload"),
        Preload("../assets/react-CPdiUi_T.js", "modulepreload"),
    )


def test_page_that_lists_its_chunks_or_has_no_entry_gets_none(tmp_path):
    write(tmp_path, ".vite/manifest.json", VITE)
    listing = PAGE + b'<link rel="modulepreload" crossorigin href="/app/assets/react-CPdiUi_T.js">'
    for page in (
        listing,
        b"<p>",
        b"<script type=module src=/app/assets/details-DQ8wx1yz.js></script>",
        PAGE.replace(b"/app", b"/x"),
    ):
        assert EntryChunks(below(tmp_path)).preloads_of("index.html", examine("html", page), mount="/app/") == ()


def test_chunks_that_are_followed_are_bounded(tmp_path):
    chunks = {str(one): {"file": f"c{one}.js", "imports": [str(one + 1), str(one)]} for one in range(1000)}
    write(tmp_path, "manifest.json", {**chunks, "e": {"file": "e.js", "isEntry": True, "imports": ["0"]}})
    found = EntryChunks(below(tmp_path)).preloads_of("index.html", examine("html", b"<script type=module src=e.js></script>"))
    assert [one.url for one in found] == [f"c{one}.js" for one in range(bundlers.LIMIT_CHUNKS)]
