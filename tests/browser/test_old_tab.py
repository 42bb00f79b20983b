"""A tab that stays open while the site is deployed under it, in a real browser, with what real bundlers build.

"Failed to fetch dynamically imported module" is what visitors see elsewhere: the page is of the release before, and its lazy
chunk, whose name is in no page any more, is gone with it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from ..commands import run_command

VITE = "vite@6.4.6"  # brings esbuild along
INSTALL_LIMIT_S = 90
BUILD_LIMIT_S = 60
DEADLINE_S = 60.0
POLL_S = 0.05

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>App</title><link rel="icon" href="data:,"></head>
<body><h1></h1><button>Open</button><main></main><script type="module" src="{script}"></script></body>
</html>
"""
SOURCES = {
    "version.js": 'export const version = "{version}";\n',
    "main.js": """import {{ version }} from "./version.js";
document.querySelector("h1").textContent = `page of ${{version}}`;
document.querySelector("button").addEventListener("click", async () => {{
  const {{ show }} = await import("./route.js");
  show(document.querySelector("main"));
}});
""",
    "route.js": """import {{ version }} from "./version.js";
import {{ number }} from "./shared.js";
import "./route.css";
export function show(element) {{
  element.textContent = `route of ${{version}}, ${{number({count})}}`;
}}
""",
    "shared.js": 'export const number = (count) => ["{version}", count].join("/");\n',
    "route.css": 'main {{ --version: "{version}"; color: rgb({count} {count} {count}) }}\n',
}
VERSIONS = {"v1": 1, "v2": 2}
LOST = re.compile(r"Failed to fetch dynamically imported module|Unable to preload CSS")


@pytest.fixture(scope="session")
def bundlers(require, missing, tmp_path_factory):
    """A folder in which vite and esbuild are installed."""
    npm = require("npm")
    folder = tmp_path_factory.mktemp("bundlers")
    options = ["--loglevel=error", "--no-audit", "--no-fund", "--fetch-timeout=20000", "--fetch-retries=1"]
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    try:
        subprocess.run([npm, "install", VITE, *options], cwd=folder, check=True, capture_output=True, timeout=INSTALL_LIMIT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = (error.stderr or b"").decode(errors="replace")
        missing(f"the npm package {VITE} ({' '.join(output.split())[:200] or error})")
    return folder


@pytest.fixture(scope="session")
def build(bundlers) -> Callable[[str, str], Path]:
    """``build("vite", "v1")`` returns the folder that the bundler makes of a version of the app."""

    def run(bundler: str, version: str) -> Path:
        folder = bundlers / f"{bundler}-{version}"
        if folder.exists():
            return folder / "dist"
        (folder / "src").mkdir(parents=True)
        for name, source in SOURCES.items():
            (folder / "src" / name).write_text(source.format(version=version, count=VERSIONS[version]))
        command = BUILDS[bundler](folder)
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=BUILD_LIMIT_S)
        finish_page(folder)
        return folder / "dist"

    return run


def prepare_vite(folder: Path) -> list[object]:
    """What most people do: no manifest says which names are fingerprints."""
    (folder / "index.html").write_text(PAGE.format(script="/src/main.js"))
    return [folder.parent / "node_modules/.bin/vite", "build", "--logLevel", "error"]


def prepare_vite_with_manifest(folder: Path) -> list[object]:
    return [*prepare_vite(folder), "--manifest"]


def prepare_esbuild(folder: Path) -> list[object]:
    names = ["--entry-names=[name]-[hash]", "--chunk-names=chunk-[hash]", "--asset-names=[name]-[hash]"]
    shape = ["--bundle", "--splitting", "--format=esm", "--minify", "--outdir=dist/assets", "--metafile=meta.json"]
    return [folder.parent / "node_modules/.bin/esbuild", "src/main.js", *shape, *names]


def finish_page(folder: Path) -> None:
    """Write the page where the bundler leaves that to its user: esbuild."""
    if (folder / "dist/index.html").exists():
        return
    outputs = json.loads((folder / "meta.json").read_text())["outputs"]
    [entry] = [name for name, one in outputs.items() if one.get("entryPoint") == "src/main.js"]
    (folder / "dist/index.html").write_text(PAGE.format(script="/" + entry.removeprefix("dist/")))


BUILDS = {"vite": prepare_vite, "vite-manifest": prepare_vite_with_manifest, "esbuild": prepare_esbuild}


@pytest.fixture
def versions(bundler, build) -> dict[str, Path]:
    """Two neighbouring builds; the lazy chunk of the first is not in the second, nor the other way round."""
    built = {version: build(bundler, version) for version in VERSIONS}
    lazy = [{file.name for file in folder.rglob("*.js") if "route of " in file.read_text()} for folder in built.values()]
    assert [len(names) for names in lazy] == [1, 1]
    assert lazy[0] != lazy[1]
    return built


@pytest.fixture
def run(tmp_path):
    """``run("publish", ...)`` runs a command on the data folder of this test."""
    return lambda *arguments: run_command(*arguments, "--data", tmp_path / "data", cwd=tmp_path)


def wait_page(url: str, folder: Path) -> None:
    """Wait until the page is that of ``folder``: every worker sees an activation within a second."""
    expected = (folder / "index.html").read_bytes()
    deadline_s = time.monotonic() + DEADLINE_S
    while urllib.request.urlopen(url, timeout=DEADLINE_S).read() != expected:
        assert time.monotonic() < deadline_s, f"{url} is not what {folder} holds"
        time.sleep(POLL_S)


def complaints(browser) -> list[str]:
    """Return what stands in the console, and what was thrown."""
    texts = [entry["entry"]["text"] for entry in browser.select("Log.entryAdded")]
    texts += [str(call["args"]) for call in browser.select("Runtime.consoleAPICalled")]
    thrown = [one["exceptionDetails"] for one in browser.select("Runtime.exceptionThrown")]
    return texts + [one.get("exception", one).get("description", str(one)) for one in thrown]


def click(browser) -> None:
    browser.evaluate("document.querySelector('button').click()")


def read_text(browser, selector: str) -> object:
    return browser.evaluate(f"document.querySelector('{selector}').textContent")


def wait_route(browser, version: str) -> None:
    expected = f"route of {version}, {version}/{VERSIONS[version]}"
    browser.wait_until(lambda: read_text(browser, "main") == expected or complaints(browser), expected)
    assert complaints(browser) == []


@pytest.mark.parametrize("bundler", BUILDS)
def test_an_open_tab_finds_its_lazy_chunks_across_an_activation_and_after_a_rollback(browser, origin, run, versions, tmp_path):
    run("publish", versions["v1"], "--prod")
    url = origin(None, "--data", tmp_path / "data") + "/"
    wait_page(url, versions["v1"])
    browser.open(url)
    assert read_text(browser, "h1") == "page of v1"

    run("publish", versions["v2"], "--prod")
    wait_page(url, versions["v2"])
    click(browser)
    wait_route(browser, "v1")

    browser.open(url)
    assert read_text(browser, "h1") == "page of v2"
    run("rollback")
    wait_page(url, versions["v1"])
    click(browser)
    wait_route(browser, "v2")


@pytest.mark.parametrize("bundler", ["vite"])
def test_a_folder_that_is_overwritten_in_place_loses_the_chunks_of_an_open_tab(browser, origin, versions, tmp_path):
    """The same, as people deploy without releases: this is how the test above would fail."""
    live = tmp_path / "live"
    shutil.copytree(versions["v1"], live)
    url = origin(live) + "/"
    browser.open(url)
    assert read_text(browser, "h1") == "page of v1"

    shutil.rmtree(live / "assets")  # rsync --delete
    shutil.copytree(versions["v2"], live, dirs_exist_ok=True)
    wait_page(url, versions["v2"])
    click(browser)
    browser.wait_until(lambda: browser.select("Runtime.exceptionThrown"), "an exception")
    assert LOST.search("\n".join(complaints(browser)))
    assert read_text(browser, "main") == ""
