"""The settings: one table of what may be set, read from a TOML file, the environment and flags, in rising order.

Decides whether every value is of its type, within its limits and of its form, and says where each value came from. Does
not look at what a value points to: whether a folder exists or a port is free is for the part that uses it. Help and
manual are made from the same table, by :func:`describe_settings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from assetserver.credentials import read_credentials
from assetserver.errors import SettingsError
from assetserver.settingchecks import check_together
from assetserver.settingforms import Form, Table
from assetserver.settingpictures import ImageSettings
from assetserver.settingtables import (
    ARRAYS,
    TABLES,
    AccessSettings,
    AdminSettings,
    CacheSettings,
    CdnSettings,
    CollectionSettings,
    CompressionSettings,
    DatabaseSettings,
    DataSettings,
    DeltaSettings,
    HeadersSettings,
    JobSettings,
    MemorySettings,
    MountSettings,
    PreviewSettings,
    PublishSettings,
    PurgeSettings,
    ServerSettings,
    SiteSettings,
    UploadSettings,
    WebhookSettings,
)
from assetserver.tomllines import (
    NOT_SHOWN,
    Layer,
    Location,
    format_bytes,
    format_key,
    format_value,
    locate,
    name_kind,
    read_toml,
    suggest,
)

CONFIG_FILE = "assetserver.toml"
"""Read from the working directory if nothing else names a file."""

_VARIABLE = "ASSETSERVER_"
_CONFIG_VARIABLE = "ASSETSERVER_CONFIG"  # names the file; not itself a setting
_NO_SETTINGS = frozenset((_CONFIG_VARIABLE, "ASSETSERVER_TOKEN", "ASSETSERVER_SIGN_PASSWORD"))  # the last two: of `publish`

_PASSWORD = re.compile(r"(?<=//)[^@/]*(?=@)")
"""In a URL, with the name that it belongs to."""

_IN_BYTES = ("_bytes", ".max_size")

_NOTHING: Mapping[str, Any] = MappingProxyType({})  # frozen: it is a default argument


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. ``sources`` says where values came from, and does not count when two are compared."""

    server: ServerSettings = field(default_factory=ServerSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    data: DataSettings = field(default_factory=DataSettings)
    publish: PublishSettings = field(default_factory=PublishSettings)
    deltas: DeltaSettings = field(default_factory=DeltaSettings)
    previews: PreviewSettings = field(default_factory=PreviewSettings)
    sites: tuple[SiteSettings, ...] = ()
    mounts: tuple[MountSettings, ...] = ()
    cache: tuple[CacheSettings, ...] = ()
    cdn: CdnSettings = field(default_factory=CdnSettings)
    headers: HeadersSettings = field(default_factory=HeadersSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    uploads: UploadSettings = field(default_factory=UploadSettings)
    collections: tuple[CollectionSettings, ...] = ()
    images: ImageSettings = field(default_factory=ImageSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    purge: tuple[PurgeSettings, ...] = ()
    sources: Mapping[Location, str] = field(default_factory=dict, compare=False, repr=False)

    def locate(self, *location: str | int) -> str:
        """Return where a value was set, such as ``locate("cache", 0, "browser")``, to report it.

        It is ``assetserver.toml:12``, ``ASSETSERVER_CACHE`` or ``--port``; the place of the table for a key that is
        not set, and ``default`` when there is no table either.
        """
        return locate(self.sources, location)


class SettingRow(NamedTuple):
    """One line of the manual: a setting's name, and the rest as text."""

    name: str
    type: str
    default: str
    limits: str
    description: str


class _Setting(NamedTuple):
    """A key of a table, as its struct declares it.

    The ``kind`` of an array is tuple, that of texts by name dict; ``item`` is that of what is in it, as are form and limits.
    """

    name: str
    annotated: Any
    kind: type
    item: type
    choices: tuple[str, ...]
    meta: Meta
    default: object

    @property
    def form(self) -> Form:
        return cast("Form", (self.meta.extra or {})["form"])

    @property
    def limits(self) -> str:
        """What a value must do, to be read after "must"."""
        if self.choices:
            *others, last = map(format_value, self.choices)
            return f"be {', '.join(others)} or {last}"
        if self.meta.ge is not None:
            return f"be between {self.write(self.meta.ge)} and {self.write(self.meta.le)}"
        return self.form.must

    def write(self, value: object) -> str:
        """Format a value or a limit; bytes also in a larger unit."""
        return format_bytes(value) if isinstance(value, int) and self.name.endswith(_IN_BYTES) else format_value(value)


def _read_setting(table: str, key: msgspec.structs.FieldInfo) -> _Setting:
    base, meta = get_args(key.type)
    choices = get_args(base) if get_origin(base) is Literal else ()
    kind = str if choices else get_origin(base) or base
    item: type = {tuple: get_args(base)[:1], dict: get_args(base)[1:]}.get(kind, (kind,))[0]
    name = f"{table}[].{key.name}" if table in ARRAYS else f"{table}.{key.name}"
    default = key.default if key.default_factory is msgspec.NODEFAULT else key.default_factory()
    return _Setting(name, key.type, kind, item, choices, meta, default)


def _to_variable(name: str) -> str:
    return _VARIABLE + name.replace(".", "__").upper()


_FIELDS = {
    table: {key.name: _read_setting(table, key) for key in msgspec.structs.fields(struct)} for table, struct in TABLES.items()
}
_NAMES: dict[str, tuple[str, ...]] = {name: (name,) for name in ARRAYS} | {
    f"{table}.{key}": (table, key) for table, keys in _FIELDS.items() if table not in ARRAYS for key in keys
}
_VARIABLES = {_to_variable(name): location for name, location in _NAMES.items()} | {"ASSETSERVER_DATA": ("data", "path")}


def describe_settings() -> list[SettingRow]:
    """Return one row per setting, in the order of the manual; a key of an array of tables reads ``mounts[].prefix``."""
    rows = []
    for setting in (setting for keys in _FIELDS.values() for setting in keys.values()):
        kind = name_kind(setting.kind).split()[-1]
        if setting.item is not setting.kind:
            kind += f" of {name_kind(setting.item).split()[-1]}s"
        default = "required" if setting.default is msgspec.NODEFAULT else setting.write(setting.default)
        about = (setting.limits.removeprefix("be "), str(setting.meta.description))
        rows.append(SettingRow(setting.name, kind, default, *about))
    return rows


def redact(settings: Settings) -> dict[str, Any]:
    """Return all settings as plain values for people to read, secrets and passwords replaced by "…"."""
    tables: dict[str, Any] = {}
    for name in TABLES:
        value = getattr(settings, name)
        tables[name] = [_redact(name, one) for one in value] if name in ARRAYS else _redact(name, value)
    return tables


def _redact(name: str, table: Table) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(table)
    for key, setting in _FIELDS[name].items():
        if setting.form.is_secret and values[key]:
            values[key] = "…" if isinstance(values[key], str) else ["…"] * len(values[key])
    if name == "database":
        values["url"] = _PASSWORD.sub(NOT_SHOWN, values["url"])
    return values


def load_settings(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = _NOTHING,
    overrides: Mapping[str, object] = _NOTHING,
) -> Settings:
    """Return the settings of a TOML file, overridden by credentials, by the environment, and by flags.

    An array of tables is replaced as a whole. Relative paths resolve against the folder of the file that has them, else
    against the working directory.

    Args:
        path: The file; without it ``ASSETSERVER_CONFIG`` of the environment, and without that no file is read.
        environ: Variables such as ``ASSETSERVER_SERVER__PORT``; those of other programs are ignored.
        overrides: Typed values by dotted name, such as ``{"server.port": 9000}`` or ``{"mounts": [...]}``.

    Raises:
        SettingsError: A file that cannot be read, or a key or value that is not accepted, even if overridden.
    """
    tables: dict[str, Any] = {}
    sources: dict[Location, str] = {}
    for layer in (_read_file(path, environ), _read_credentials(environ), _read_environment(environ), _read_flags(overrides)):
        for name, value in layer.tree.items():
            if name in ARRAYS:
                tables[name] = _check_array(layer, name, value)
                sources = {location: source for location, source in sources.items() if location[0] != name}
            else:
                tables[name] = tables.get(name, {}) | _check_table(layer, (name,), value)
        sources |= layer.sources
    for name in tables.keys() - ARRAYS:
        tables[name] = TABLES[name](**tables[name])
    settings = Settings(**tables, sources=sources)
    check_together(settings)
    return settings


def default_config() -> str | None:
    """Return the file to read where none is named: ``assetserver.toml`` if it is there and the environment names no other."""
    return CONFIG_FILE if os.path.isfile(CONFIG_FILE) and _CONFIG_VARIABLE not in os.environ else None


def _read_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Layer:
    if path is not None:
        return read_toml(os.fspath(path), "--config")
    named = environ.get(_CONFIG_VARIABLE)
    return read_toml(named, _CONFIG_VARIABLE) if named else Layer({}, {})


def _read_environment(environ: Mapping[str, str]) -> Layer:
    layer = Layer({}, {})
    for variable in sorted(environ):
        location = _VARIABLES.get(variable)
        if location:
            table, key = location[0], location[-1]
            setting = None if table in ARRAYS else _FIELDS[table][key]
            kind, item = (setting.kind, setting.item) if setting else (list, str)
            shows = not (setting and setting.form.is_secret)
            layer.put_text(location, variable, kind, environ[variable], item=item, shows=shows)
        elif variable.startswith(_VARIABLE) and variable not in _NO_SETTINGS:
            raise SettingsError(f"{format_key((variable,))}: unknown setting; {_suggest_variable(variable)}")
    return layer


def _suggest_variable(variable: str) -> str:
    table, _, key = variable.removeprefix(_VARIABLE).lower().partition("__")
    if table in ARRAYS:
        return f"did you mean {_to_variable(table)}?"
    if table in _FIELDS:
        return suggest(key, _FIELDS[table], lambda name: _to_variable(f"{table}.{name}"))
    return suggest(f"{table}.{key}" if key else table, _NAMES, _to_variable)


def _read_credentials(environ: Mapping[str, str]) -> Layer:
    """Return what the service manager has decrypted for us alone: a file for each setting, named as it is.

    An array is a line each. An empty file is none, so that a unit may name what is not there.
    """
    layer = Layer({}, {})
    for name, text in read_credentials(environ).items():
        location = _NAMES.get(name)
        table, _, key = name.partition(".")
        if location is None and table in _FIELDS and table not in ARRAYS:
            known = suggest(key, _FIELDS[table], format_value)
            raise SettingsError(f"credential {format_value(name)}: {table} has no such setting; {known}")
        if location is None or not text:
            continue  # another program's, or not there
        setting = None if table in ARRAYS else _FIELDS[table][key]
        kind, item = (setting.kind, setting.item) if setting else (list, str)
        if kind is tuple and item is str:
            layer.put(location, f"credential {name}", text.splitlines())
        else:
            layer.put_text(location, f"credential {name}", kind, text, item=item, shows=False)
    return layer


def _read_flags(overrides: Mapping[str, object]) -> Layer:
    layer = Layer({}, {})
    for name, value in overrides.items():
        if name not in _NAMES:
            raise SettingsError(f"command line: unknown setting {format_value(name)}; {suggest(name, _NAMES, format_value)}")
        flag = "--" + name.removeprefix("server.").replace(".", "-").replace("_", "-")
        layer.put(_NAMES[name], "command line" if name in ARRAYS else flag, value)
    return layer


def _check_array(layer: Layer, name: str, value: Any) -> tuple[Table, ...]:
    layer.check_kind((name,), list, value)
    return tuple(TABLES[name](**_check_table(layer, (name, i), table)) for i, table in enumerate(value))


def _check_table(layer: Layer, location: Location, table: Any) -> dict[str, Any]:
    name = str(location[0])
    if name not in _FIELDS:
        what, known = ("table", list(TABLES)) if isinstance(table, dict | list) else ("key", list(_NAMES))
        raise layer.error(location, f"unknown {what} {format_value(name)}; {suggest(name, known, format_value)}")
    layer.check_kind(location, dict, table)
    fields = _FIELDS[name]
    for key in table:
        if key not in fields:
            title = f"[[{name}]]" if name in ARRAYS else f"[{name}]"
            problem = f"unknown key {format_value(key)} in {title}; {suggest(key, fields, format_value)}"
            raise layer.error((*location, key), problem)
    for key, setting in fields.items():
        if setting.default is msgspec.NODEFAULT and key not in table:
            raise layer.error(location, f"{format_key(location)} has no {key}; it must {setting.limits}")
    return {key: _check_value(layer, (*location, key), fields[key], value) for key, value in table.items()}


def _check_value(layer: Layer, location: Location, setting: _Setting, value: Any) -> object:
    layer.check_kind(location, setting.kind, value, setting.item)
    if setting.item is not setting.kind:
        item = setting._replace(annotated=Annotated[setting.item, setting.meta], kind=setting.item)
        if isinstance(value, dict):
            return {name: _check_value(layer, (*location, name), item, text) for name, text in value.items()}
        return tuple(_check_value(layer, (*location, i), item, one) for i, one in enumerate(cast("list[object]", value)))
    try:
        checked = msgspec.convert(value, setting.annotated)
        accepted = setting.form.accepts(checked)
    except msgspec.ValidationError:
        accepted = False
    if not accepted:
        shown = NOT_SHOWN if setting.form.is_secret else _PASSWORD.sub(NOT_SHOWN, format_value(value))
        raise layer.error(location, f"{format_key(location)} is {shown}; it must {setting.limits}")
    if setting.form.is_path:
        return layer.resolve(location, checked)
    return checked.lower() if setting.form.is_name else checked
