"""The layers and sizes of DESIGN.md, held by reading the source: nothing is imported, nothing runs.

A check takes modules and returns its complaints, each beginning with file and line. It is run on the package, where it must
find nothing, and on a few lines of source that break its rule, where it must find them.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "assetserver"

ROWS = (
    {"semantics", "storage", "settings", "settingchecks", "settingforms", "settingpictures", "settingtables", "tomllines"}
    | {"errors", "metrics", "observe", "traces", "bodies", "problems", "complaints", "supervision", "credentials"},
    {"releases", "jobs", "access", "pictures"},
    {"delivery", "uploads", "images", "console", "remote", "webhooks", "purging"},
    {"database"},
    {"app", "cli", "serving", "data", "publishing", "upkeep", "routes", "wording", "__main__", "__init__"}
    | {
        "addresses",
        "announcing",
        "baseurl",
        "endings",
        "options",
        "progress",
        "entrance",
        "spans",
        "remoteroutes",
        "remotepublishing",
        "tokencli",
        "tokencommands",
    }
    | {
        "admission",
        "firststart",
        "mediaroutes",
        "uploading",
        "listening",
        "loading",
        "origin",
        "reloading",
        "servicecli",
        "units",
        "descriptors",
    }
    | {"jobcli", "jobcommands", "jobkinds", "kindnames", "picturejobs", "studios", "working"}
    | {"backup", "backupcli", "certificates", "manual", "restoring", "shellcli"}
    | {"adminclient", "counters", "lookcli", "monitoring", "readiness", "reporting", "topcommand", "topscreen"}
    | {"purgecli", "purgecommands", "purgejobs", "purgeorders", "purgeuploads"}
    | {
        "ondemand",
        "ondemandapi",
        "ondemandiiif",
        "ondemandjobs",
        "ondemandladders",
        "ondemandorders",
        "ondemandroutes",
        "ondemandsweep",
        "ondemandurls",
    },
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
SHARED_GROUND = {"semantics", "metrics", "errors", "tomllines", "credentials", "traces"} | {
    "settingchecks",
    "settingforms",
    "settingpictures",
    "settingtables",
}
"""What others of the lowest row may import."""
TOP = len(ROWS) - 1

STORAGE_GROUND = {"assetserver.storage." + name for name in ("blobs", "bringing", "codecs", "durable", "pools", "signatures")}
CHOOSE_ENGINES = {"assetserver.data", "assetserver.app", "assetserver.cli"}
KNOW_UVICORN = {"assetserver.delivery." + name for name in ("protocol", "expected", "http2", "livesockets")}

IMPURE_MODULES = {
    "aiofiles",
    "anyio",
    "asyncio",
    "io",
    "os",
    "pathlib",
    "random",
    "socket",
    "starlette",
    "threading",
    "time",
    "uvicorn",
}
IMPURE_CALLS = {"open", "now", "utcnow", "today"}
ASYNC_NODES = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
EMPTY_NAMES = {"utils", "helpers", "core", "common", "manager"}
LIMIT_FILE_LINES = 400
LIMIT_FUNCTION_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, where it lies, its text and its tree."""

    name: str
    path: str
    source: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @property
    def room(self) -> str:
        """What stands in a row: the package or module right below ``assetserver``."""
        return [*self.name.split("."), "__init__"][1]

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}:"


def read_package(folder: Path = PACKAGE) -> list[Module]:
    modules = []
    for file in sorted(folder.rglob("*.py")):
        relative = file.relative_to(folder.parent)
        is_package = file.name == "__init__.py"
        parts = relative.parent.parts if is_package else relative.with_suffix("").parts
        modules.append(Module(".".join(parts), str(relative), file.read_text("utf-8"), is_package))
    return modules


def find_imports(module: Module, known: set[str]) -> Iterator[tuple[str, ast.AST]]:
    """Yield each imported module's dotted name, wherever the import stands; relative names resolved."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.name.split(".")
                anchor = parts[: len(parts) - node.level + module.is_package]
                base = ".".join([*anchor, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield (whole if whole in known else base), node


def find_own_imports(module: Module, modules: list[Module]) -> Iterator[tuple[Module, ast.AST]]:
    """Yield the modules of the package that ``module`` imports; one that is not there stands for itself."""
    by_name = {one.name: one for one in modules}
    for name, node in find_imports(module, set(by_name)):
        if name.split(".")[0] == "assetserver":
            yield by_name.get(name, Module(name, name.replace(".", "/"), "")), node


def check_rows(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        row = ROW_OF.get(module.room)
        if row is None:
            yield f"{module.path}:1: {module.room} stands in no row"
            continue
        for target, node in find_own_imports(module, modules):
            target_row = ROW_OF.get(target.room, TOP)
            inside = target.room == module.room or (row == target_row == TOP)
            ground = row == 0 and target.room in SHARED_GROUND
            if not (inside or ground or target_row < row):
                yield f"{module.at(node)} {module.room} (row {row}) imports {target.name} (row {target_row})"


def check_neighbours(modules: list[Module]) -> Iterator[str]:
    flows = ROWS[2]
    for module in modules:
        for target, node in find_own_imports(module, modules):
            if module.room in flows and target.room in flows - {module.room}:
                yield f"{module.at(node)} {module.room} imports its neighbour {target.name}"


def is_engine(name: str) -> bool:
    parts = name.split(".")
    return parts[1:2] == ["database"] or (parts[1:2] == ["storage"] and len(parts) > 2 and name not in STORAGE_GROUND)


def check_engines(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        for target, node in find_own_imports(module, modules):
            if is_engine(target.name) and target.room != module.room and module.name not in CHOOSE_ENGINES:
                yield f"{module.at(node)} only app.py and cli.py choose engines; this imports {target.name}"


def check_purity(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        if module.room != "semantics":
            continue
        for name, node in find_imports(module, set()):
            if name.split(".")[0] in IMPURE_MODULES:
                yield f"{module.at(node)} semantics imports {name}"
        for node in ast.walk(module.tree):
            if isinstance(node, ASYNC_NODES) or (isinstance(node, ast.comprehension) and node.is_async):
                yield f"{module.at(node)} semantics waits"
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in IMPURE_CALLS:
                    yield f"{module.at(node)} semantics calls {called}()"


def check_uvicorn(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        for name, node in find_imports(module, set()):
            if module.room == "delivery" and name.split(".")[0] == "uvicorn" and module.name not in KNOW_UVICORN:
                yield f"{module.at(node)} only delivery/protocol.py knows Uvicorn; this imports {name}"


def check_names(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        if empty := EMPTY_NAMES & set(module.name.split(".")):
            yield f"{module.path}:1: {empty.pop()} is a name that says nothing"


def check_file_sizes(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        if (lines := len(module.source.splitlines())) > LIMIT_FILE_LINES:
            yield f"{module.path}:{lines}: the file has {lines} lines; {LIMIT_FILE_LINES} are the limit"


def check_function_sizes(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, Function) and (lines := (node.end_lineno or 0) - node.lineno + 1) > LIMIT_FUNCTION_LINES:
                yield f"{module.at(node)} {node.name} has {lines} lines; {LIMIT_FUNCTION_LINES} are the limit"


def find_public(node: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    for child in node.body:
        if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from find_public(child)


def check_docstrings(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        tree = module.tree
        if ast.get_docstring(tree) is None:
            yield f"{module.path}:1: the module has no docstring"
        for node in find_public(tree):
            if ast.get_docstring(node) is None:
                yield f"{module.at(node)} {node.name} has no docstring"


def check_cycles(modules: list[Module]) -> Iterator[str]:
    ahead = {
        module.name: [(target.name, node) for target, node in find_own_imports(module, modules) if target.name != module.name]
        for module in modules
    }
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> Iterator[str]:
        for target, node in ahead.get(name, ()):
            if target in way:
                circle = " → ".join([*way[way.index(target) :], target])
                yield f"{next(module for module in modules if module.name == name).at(node)} import cycle: {circle}"
            elif target not in done:
                yield from walk(target, [*way, target])
        done.add(name)

    for module in modules:
        if module.name not in done:
            yield from walk(module.name, [module.name])


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return read_package()


def test_package_is_found(modules):
    assert {"assetserver", "assetserver.errors", "assetserver.semantics.respond"} <= {module.name for module in modules}


def test_modules_import_only_from_a_lower_row_or_their_own_package(modules):
    assert list(check_rows(modules)) == []


def test_flows_never_import_each_other(modules):
    assert list(check_neighbours(modules)) == []


def test_only_app_and_cli_import_an_engine(modules):
    assert list(check_engines(modules)) == []


def test_semantics_never_waits_opens_or_reads_the_clock(modules):
    assert list(check_purity(modules)) == []


def test_only_the_protocol_of_delivery_knows_uvicorn(modules):
    assert list(check_uvicorn(modules)) == []


def test_no_module_has_a_name_that_says_nothing(modules):
    assert list(check_names(modules)) == []


def test_no_file_is_longer_than_four_hundred_lines(modules):
    assert list(check_file_sizes(modules)) == []


def test_no_function_is_longer_than_sixty_lines(modules):
    assert list(check_function_sizes(modules)) == []


def test_everything_public_has_a_docstring(modules):
    assert list(check_docstrings(modules)) == []


def test_modules_do_not_import_each_other_in_a_circle(modules):
    assert list(check_cycles(modules)) == []


def make_modules(sources: dict[str, str]) -> list[Module]:
    """Make modules from paths below ``assetserver/``, without ".py"."""
    modules = []
    for path, source in sources.items():
        parts = ["assetserver", *path.split("/")]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules.append(Module(name, f"assetserver/{path}.py", source, is_package))
    return modules


LONG_FUNCTION = "def long():\n" + "    pass\n" * LIMIT_FUNCTION_LINES

BROKEN = [
    (check_rows, {"semantics/a": "from ..delivery import b", "delivery/b": ""}, "a.py:1: semantics (row 0) imports"),
    (check_rows, {"semantics/a": "\nfrom assetserver.settings import x", "settings": ""}, "a.py:2: semantics (row 0) imports"),
    (check_rows, {"releases/a": "import assetserver.jobs.b"}, "a.py:1: releases (row 1) imports assetserver.jobs.b (row 1)"),
    (
        check_rows,
        {"delivery/a": "def f():\n    from .. import app", "app": ""},
        "a.py:2: delivery (row 2) imports assetserver.app",
    ),
    (check_rows, {"delivery/a": "import assetserver"}, "a.py:1: delivery (row 2) imports assetserver (row 4)"),
    (check_rows, {"misplaced": ""}, "misplaced.py:1: misplaced stands in no row"),
    (check_neighbours, {"uploads/a": "from ..images.b import c"}, "a.py:1: uploads imports its neighbour assetserver.images"),
    (
        check_engines,
        {"uploads/a": "from ..storage import s3", "storage/s3": ""},
        "a.py:1: only app.py and cli.py choose engines",
    ),
    (check_engines, {"serving": "from .database.sqlite import x"}, "serving.py:1: only app.py and cli.py choose engines"),
    (check_purity, {"semantics/a": "import os.path"}, "a.py:1: semantics imports os.path"),
    (check_purity, {"semantics/a": "from time import time"}, "a.py:1: semantics imports time"),
    (check_purity, {"semantics/a": "async def f(): ..."}, "a.py:1: semantics waits"),
    (check_purity, {"semantics/a": "x = [y async for y in z]"}, "a.py:1: semantics waits"),
    (check_purity, {"semantics/a": "open('x')"}, "a.py:1: semantics calls open()"),
    (check_purity, {"semantics/a": "\ndatetime.now(UTC)"}, "a.py:2: semantics calls now()"),
    (check_uvicorn, {"delivery/a": "from uvicorn.protocols import b"}, "a.py:1: only delivery/protocol.py knows Uvicorn"),
    (check_names, {"delivery/utils": ""}, "utils.py:1: utils is a name that says nothing"),
    (check_names, {"core/__init__": ""}, "core/__init__.py:1: core is a name that says nothing"),
    (check_file_sizes, {"a": "x = 1\n" * (LIMIT_FILE_LINES + 1)}, "a.py:401: the file has 401 lines"),
    (check_function_sizes, {"a": LONG_FUNCTION}, "a.py:1: long has 61 lines"),
    (check_function_sizes, {"a": LONG_FUNCTION.replace("def", "async def", 1)}, "a.py:1: long has 61 lines"),
    (check_docstrings, {"a": ""}, "a.py:1: the module has no docstring"),
    (check_docstrings, {"a": '"""A."""\nclass B:\n    """B."""\n    def c(self): ...'}, "a.py:4: c has no docstring"),
    (check_docstrings, {"a": '"""A."""\nasync def b(): ...'}, "a.py:2: b has no docstring"),
    (
        check_cycles,
        {"a": "from . import b", "b": "from .c import x", "c": "import assetserver.a"},
        "c.py:1: import cycle: assetserver.a → assetserver.b → assetserver.c → assetserver.a",
    ),
]


@pytest.mark.parametrize(("check", "sources", "complaint"), BROKEN, ids=[f"{row[0].__name__}-{row[2]}" for row in BROKEN])
def test_rule_that_is_broken_names_the_file_and_the_line(check, sources, complaint):
    complaints = list(check(make_modules(sources)))

    assert len(complaints) == 1
    assert complaint in complaints[0]


@pytest.mark.parametrize(
    ("check", "sources"),
    [
        (check_rows, {"delivery/a": "from ..semantics.b import c\nfrom .d import e\nimport os", "delivery/d": ""}),
        (check_rows, {"storage/a": "from assetserver.errors import E", "settings": "from .tomllines import x"}),
        (check_rows, {"serving": "from .app import create_app", "__init__": "from .delivery.a import b"}),
        (check_neighbours, {"delivery/a": "from . import b", "delivery/b": "from ..releases.c import d"}),
        (check_engines, {"app": "from .database.sqlite import x", "uploads/a": "from ..storage.blobs import B"}),
        (check_engines, {"storage/layered": "from .files import F"}),
        (check_purity, {"semantics/a": "import re\nnow = 1\nx.opener()", "delivery/b": "import os\nopen('x')"}),
        (check_uvicorn, {"delivery/protocol": "import uvicorn", "serving": "import uvicorn"}),
        (check_names, {"delivery/encodings": ""}),
        (check_file_sizes, {"a": "x = 1\n" * LIMIT_FILE_LINES}),
        (check_function_sizes, {"a": LONG_FUNCTION.replace("    pass\n", "", 1)}),
        (check_docstrings, {"a": '"""A."""\ndef _b(): ...\nclass _C:\n    def d(self): ...'}),
        (check_cycles, {"a": "from . import b, c", "b": "from . import c", "c": ""}),
    ],
)
def test_rule_that_is_kept_has_no_complaint(check, sources):
    assert list(check(make_modules(sources))) == []
