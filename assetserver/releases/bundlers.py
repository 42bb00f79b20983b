"""What bundlers write about their own output: which names carry a hash, and which chunks an entry needs.

Read are the manifests of Vite (also Laravel's ``build/``), webpack (``webpack-manifest-plugin``, Create React App,
``stats.json``) and esbuild (``metafile``). A file with one of these names that is something else says nothing, and is no error:
a web app manifest is called ``manifest.json`` too. Only names that hold something like a hash are declared, because
``[name].js`` is what many configure, and such a name must never become immutable.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from typing import TypeVar

import msgspec

from .facts import Facts, Preload
from .hashlike import holds_hash, is_hash_behind
from .references import clean_url, resolve

T = TypeVar("T")

PlaceOf = Callable[[str], str]
"""Returns where a file of the build lies on disk, by its path in the build; nothing needs to be there."""

LIMIT_BYTES = 32 << 20
"""Larger manifests are not read: decoding takes several times their size in memory."""

LIMIT_CHUNKS = 64
"""Chunks of one entry that are followed; a ``Link`` field holds ten."""

_LONGEST_PREFIX = 16
_VITE = (".vite/manifest.json", "manifest.json", "build/.vite/manifest.json", "build/manifest.json")
_WEBPACK = ("manifest.json", "asset-manifest.json", "build/manifest.json", "build/asset-manifest.json")
_STATS = ("stats.json",)
_ESBUILD = ("meta.json", "metafile.json")
MANIFESTS = frozenset((*_VITE, *_WEBPACK, *_STATS, *_ESBUILD))
"""What is read where it is there: paths below the build's folder."""


class _ViteChunk(msgspec.Struct, frozen=True):
    file: str
    src: str = ""
    name: str = ""
    is_entry: bool = msgspec.field(default=False, name="isEntry")
    imports: tuple[str, ...] = ()
    css: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()


class _CraManifest(msgspec.Struct, frozen=True):
    files: dict[str, str]


class _StatsInfo(msgspec.Struct, frozen=True):
    immutable: bool = False


class _StatsAsset(msgspec.Struct, frozen=True):
    name: str
    info: _StatsInfo = _StatsInfo()


class _Stats(msgspec.Struct, frozen=True):
    assets: tuple[_StatsAsset, ...]


class _EsbuildOutput(msgspec.Struct, frozen=True):
    entry_point: str = msgspec.field(default="", name="entryPoint")
    inputs: dict[str, msgspec.Raw] = {}


class _Metafile(msgspec.Struct, frozen=True):
    outputs: dict[str, _EsbuildOutput]


def declared_names(place_of: PlaceOf, files: Collection[str]) -> dict[str, str]:
    """Return which of ``files`` (paths below the build's folder) a bundler declares as hashed, each with the reason in words.

    Never raises for what a manifest holds, or if it cannot be read.
    """
    known = files if isinstance(files, set | frozenset | Mapping) else frozenset(files)
    found: dict[str, str] = {}
    for manifest, name, stem in _declarations(place_of):
        path = _place(name, manifest, known)
        if path and (is_hash_behind(path, stem) if stem else holds_hash(path)):
            found.setdefault(path, f"declared by {manifest}")
    return dict(sorted(found.items()))


def source_keys(place_of: PlaceOf, files: Collection[str]) -> dict[str, str]:
    """Return, by path, what a bundler says that it made each of ``files`` of: names that stay when hashes and stems change.

    Never raises for what a manifest holds, or if it cannot be read.
    """
    found: dict[str, str] = {}
    for manifest, name, key in _sources(place_of):
        if key and (path := _place(name, manifest, files)):
            found.setdefault(path, key)
    return dict(sorted(found.items()))


class EntryChunks:
    """The chunks that entries import, by the Vite manifests of the build; read once, for all pages."""

    def __init__(self, place_of: PlaceOf) -> None:
        self._entries: dict[str, tuple[str, list[str], list[str]]] = {}
        for manifest, graph in _vite_chunks(place_of):
            root = _root_of(manifest)
            for entry in filter(lambda one: one.is_entry, graph.values()):
                imports = _imports_of(entry, graph)
                self._entries.setdefault(root + entry.file, (entry.file, imports, [root + one for one in imports]))

    def preloads_of(self, page: str, facts: Facts, *, mount: str = "/") -> tuple[Preload, ...]:
        """Return the chunks that the module scripts of ``page`` import, as preloads.

        Nothing for scripts with a chunk that the page lists itself: Vite writes all of them, or was told not to. A chunk's URL
        is written as the page writes its script's, and asked for in the same mode. ``mount``: as in ``references.resolve``.
        """
        if not self._entries:
            return ()
        modules = [one for one in facts.preloads if one.rel == "modulepreload"]
        listed = {path: one for one in modules if (path := resolve(one.url, page, facts.base, mount=mount))}
        found: dict[str, Preload] = {}
        for path, module in listed.items():
            file, imports, paths = self._entries.get(path, ("", [], []))
            if listed.keys().isdisjoint(paths):
                found |= _beside(module, file, imports)
        return tuple(found.values())


def _beside(module: Preload, file: str, imports: list[str]) -> dict[str, Preload]:
    """Return preloads of ``imports``, by URL: what stands before ``file`` in the script's URL stands before theirs too."""
    url = clean_url(module.url)
    if not url.endswith(file):
        return {}
    before = url.removesuffix(file)
    return {before + one: Preload(before + one, "modulepreload", "", module.crossorigin) for one in imports}


def _imports_of(entry: _ViteChunk, graph: Mapping[str, _ViteChunk]) -> list[str]:
    """Return the files of the chunks that ``entry`` imports statically, near ones first; circles are fine."""
    found: dict[str, None] = {}
    waiting = list(entry.imports)
    for key in waiting:
        chunk = graph.get(key)
        if chunk is None or chunk is entry or chunk.file in found or not chunk.file.endswith((".js", ".mjs")):
            continue
        if len(found) == LIMIT_CHUNKS:
            break
        found[chunk.file] = None
        waiting += chunk.imports
    return list(found)


def _declarations(place_of: PlaceOf) -> Iterator[tuple[str, str, str]]:
    """Yield (manifest, name in it, stem of the name without hash or "") of every manifest of the build."""
    for manifest, graph in _vite_chunks(place_of):
        for chunk in graph.values():
            yield manifest, chunk.file, chunk.name or _stem_of(chunk.src, chunk.file)
            yield from ((manifest, one, "") for one in (*chunk.css, *chunk.assets))
    for manifest in _WEBPACK:
        flat = _load(place_of, manifest, dict[str, str])
        cra = _load(place_of, manifest, _CraManifest)
        for key, name in (flat or (cra.files if cra else {})).items():
            yield manifest, name, _stem_of(key, name)
    for manifest in _STATS:
        stats = _load(place_of, manifest, _Stats)
        yield from ((manifest, one.name, "") for one in (stats.assets if stats else ()))
    for manifest in _ESBUILD:
        metafile = _load(place_of, manifest, _Metafile)
        for name, output in (metafile.outputs if metafile else {}).items():
            yield manifest, name, _esbuild_stem(name, output)


def _sources(place_of: PlaceOf) -> Iterator[tuple[str, str, str]]:
    """Yield (manifest, name in it, source) of every manifest of the build; what belongs to a chunk is counted after it."""
    for manifest, graph in _vite_chunks(place_of):
        for chunk in graph.values():
            yield manifest, chunk.file, chunk.src
            if chunk.src:
                yield from ((manifest, one, f"{chunk.src} {number}") for number, one in enumerate((*chunk.css, *chunk.assets)))
    for manifest in _WEBPACK:
        flat = _load(place_of, manifest, dict[str, str])
        cra = _load(place_of, manifest, _CraManifest)
        yield from ((manifest, name, key) for key, name in (flat or (cra.files if cra else {})).items())
    for manifest in _ESBUILD:
        metafile = _load(place_of, manifest, _Metafile)
        yield from ((manifest, name, one.entry_point) for name, one in (metafile.outputs if metafile else {}).items())


def _vite_chunks(place_of: PlaceOf) -> Iterator[tuple[str, dict[str, _ViteChunk]]]:
    for manifest in _VITE:
        if graph := _load(place_of, manifest, dict[str, _ViteChunk]):
            yield manifest, graph


def _stem_of(source: str, name: str) -> str:
    """Return the file name of ``source`` without extension, "" where it is the hashed name itself, as webpack lists media."""
    last = source.rpartition("/")[2]
    return "" if name.rpartition("/")[2] == last and holds_hash(name) else os.path.splitext(last)[0]


def _esbuild_stem(name: str, output: _EsbuildOutput) -> str:
    """Return the stem of an output of esbuild: of its entry, of the one file it was made of, or of shared chunks."""
    if name.rpartition("/")[2].startswith("chunk-"):
        return "chunk"
    return _stem_of(output.entry_point or (next(iter(output.inputs)) if len(output.inputs) == 1 else ""), name)


def _root_of(manifest: str) -> str:
    """Return the folder that a manifest's names are relative to, "" or ending in "/"."""
    return manifest.rpartition("/")[0].removesuffix(".vite").rstrip("/") + "/" if manifest.startswith("build/") else ""


def _place(name: str, manifest: str, files: Container[str]) -> str | None:
    """Return the file of the release that ``name`` means.

    Names come with a public path, an origin, or the folder of the build before them: these are taken off, as few as needed.
    """
    path = clean_url(name).partition("?")[0].partition("#")[0]
    if "//" in path:
        path = path.partition("//")[2].partition("/")[2]
    parts = path.lstrip("/").removeprefix("./").removeprefix("auto/").split("/")
    root = _root_of(manifest)
    for skipped in range(min(len(parts), _LONGEST_PREFIX)):
        rest = "/".join(parts[skipped:])
        for candidate in (root + rest, rest):
            if candidate in files:
                return candidate
    return None


def _load(place_of: PlaceOf, name: str, shape: type[T]) -> T | None:
    """Return the manifest ``name`` if it is there and of this ``shape``."""
    content = _read(place_of(name))
    try:
        return msgspec.json.decode(content, type=shape) if content else None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _read(path: str) -> bytes:
    """Return the content of a regular file of at most ``LIMIT_BYTES``, else nothing; a pipe with that name blocks nobody."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            return file.read(LIMIT_BYTES) if stat.S_ISREG(status.st_mode) and status.st_size <= LIMIT_BYTES else b""
    except (OSError, ValueError):
        return b""
