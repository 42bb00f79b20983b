"""The data folder of these settings: which engines keep releases and where, and what the settings ask of a release."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from .access.keyfile import KEY_FILE, load_keys
from .access.keys import KeyRing
from .access.records import AccessRecords
from .errors import PublishError, ReleaseMissingError, SettingsError, SignatureError, StorageError
from .releases.library import Library
from .releases.manifest import SHORT, ReleaseId
from .releases.sites import Site
from .settings import Settings
from .settingtables import SiteSettings
from .storage.durable import make_durable_folder
from .storage.files import FileBlobs
from .storage.marks import ChangeMark
from .wording import short_path

if TYPE_CHECKING:
    from .database.connections import Database
    from .database.jobs import SqlJobs
    from .database.pictures import Announce, SqlPictures
    from .releases.publish import PublishOptions
    from .uploads.depot import AfterRemoval, FollowUp, PictureOf
    from .uploads.records import Upload, UploadRecords
    from .uploads.service import UploadService

DEFAULT_FOLDER = "data"
MEDIA = "media"
"""Below the data folder: the blobs of uploads and what belongs to them, apart from releases."""
_SQLITE = "sqlite:///"
_BY_HAND = ("default", "--data-path")
"""How a place is called that a flag sets, or nobody."""


def data_folder(settings: Settings) -> str:
    """Return the data folder: ``data.path``, else ``$STATE_DIRECTORY``, else ``./data``. It need not be there."""
    return settings.data.path or os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or DEFAULT_FOLDER


def check_data_folder(settings: Settings) -> None:
    """Raise ``SettingsError`` if the data folder is not there and cannot be made, or is a file; nothing of it stays.

    Who only serves folders, and names no data folder, needs none.
    """
    if not (served_sites(settings) or settings.data.path):
        return
    folder = os.path.abspath(data_folder(settings))
    reason = "" if os.path.isdir(folder) else _try_to_make(folder)
    if reason:
        place = settings.locate("data", "path")
        raise SettingsError(f"{'--data' if place in _BY_HAND else place}: {short_path(folder)} cannot be created: {reason}")


def _try_to_make(folder: str) -> str:
    """Make the first of the folders that are missing, and remove it again; return why that cannot be, or ""."""
    while not os.path.lexists(above := os.path.dirname(folder)):
        folder = above
    try:
        os.mkdir(folder)
        os.rmdir(folder)
    except OSError as error:
        return "" if os.path.isdir(folder) else (error.strerror or str(error)).lower()  # another process makes it, too
    return ""


def open_library(settings: Settings) -> Library:
    """Return the releases in the data folder of ``settings``, none yet or many."""
    folder = data_folder(settings)
    return Library(folder, FileBlobs(os.path.join(folder, "blobs")))


class Records:
    """The records in the database at ``url``, opened when they are first touched: only then SQLAlchemy is imported.

    ``url`` is ``sqlite:///PATH`` or one of PostgreSQL; ``announce``: see ``database.pictures``. All methods block, and may be
    called from any thread.
    """

    def __init__(self, url: str, announce: Announce | None = None) -> None:
        self._url = url
        self._announce = announce or (lambda _, __: ())
        self._path = url.removeprefix(_SQLITE) if url.startswith(_SQLITE) else ""
        self._database: Database | None = None
        self._lock = threading.Lock()

    def are_there(self) -> bool:
        """Tell whether anything was ever kept: who only looks must not make a database."""
        return self._database is not None or not self._path or os.path.exists(self._path)

    def identify_file(self) -> tuple[int, int] | None:
        """Return device and inode of the file that records are kept in, None if there is none, or a server has them."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def has_tokens(self) -> bool:
        """Tell whether there are any tokens. A file is only looked at, for that without what opens it: see ``drivers``.

        Raises ``StorageError``, and what opening does.
        """
        if not self._path:
            return bool(self.access().tokens.list_all())
        from .database.drivers import has_tokens  # noqa: PLC0415 - who keeps no records starts without

        return has_tokens(self._path)

    def uploads(self) -> UploadRecords:
        """Return the records of uploads."""
        from .database.uploads import SqlUploads  # noqa: PLC0415 - SQLAlchemy takes 0.2 s

        return SqlUploads(self._open(), self._announce)

    def access(self) -> AccessRecords:
        """Return the tokens, and the uses of grants."""
        from .database.tokens import SqlGrants, SqlTokens  # noqa: PLC0415 - as above

        return AccessRecords(SqlTokens(self._open()), SqlGrants(self._open()))

    def jobs(self) -> SqlJobs:
        """Return the jobs, for who makes work, who does it, and people."""
        from .database.jobs import SqlJobs  # noqa: PLC0415 - as above
        from .database.pictures import KIND, end_within  # noqa: PLC0415 - as above

        return SqlJobs(self._open(), on_dead={KIND: partial(end_within, announce=self._announce)})

    def pictures(self) -> SqlPictures:
        """Return what is made of uploads, for who makes it."""
        from .database.pictures import SqlPictures  # noqa: PLC0415 - as above

        return SqlPictures(self._open(), self._announce)

    def ping(self) -> None:
        """Begin to write, and end: raises what ``Database.write`` does if that cannot be now, or the file is gone."""
        database = self._open()
        if self._path and not os.path.exists(self._path):
            raise StorageError(f"{self._path} is gone; whoever has it open writes to what nobody will find")
        with database.write(alone=False):
            pass

    def close(self) -> None:
        """Close the database. It is opened anew if it is used again."""
        with self._lock:
            if self._database is not None:
                self._database.close()

    def _open(self) -> Database:
        with self._lock:
            if self._database is None:
                database = self._make()
                database.open()
                self._database = database
            return self._database

    def _make(self) -> Database:
        if not self._path:
            from .database.postgres import PostgresDatabase  # noqa: PLC0415 - as above

            return PostgresDatabase(self._url)
        from .database.sqlite import SqliteDatabase  # noqa: PLC0415 - as above

        self._make_private()
        return SqliteDatabase(self._path)

    def _make_private(self) -> None:
        """Make the file, if it is not there, for this user alone; SQLite gives its ``-wal`` and ``-shm`` the same mode.

        Without opening it: whoever closes a file drops the locks that this process has on it. Errors are told by who opens it.
        """
        with suppress(OSError):
            make_durable_folder(os.path.dirname(os.path.abspath(self._path)))
            os.mknod(self._path, stat.S_IFREG | 0o600)


def open_records(settings: Settings, announce: Announce | None = None) -> Records:
    """Return the records of ``settings``; nothing is opened yet. Raises ``SettingsError`` without what opens them.

    ``announce`` is for who may end an upload, a picture or its job: others are to hear of it.
    """
    url = settings.database.url
    if url.startswith("postgresql") and importlib.util.find_spec("psycopg") is None:
        place = settings.locate("database", "url")
        raise SettingsError(f"{place}: PostgreSQL needs psycopg, which is missing: pip install 'assetserver[postgresql]'")
    path = records_path(settings)
    return Records(_SQLITE + path if path else url, announce)


def load_engine(settings: Settings) -> None:
    """Import what keeps the records of ``settings``, and open nothing: for a process that forks others who will."""
    kind = "sqlite" if records_path(settings) else "postgres"
    for name in (kind, "jobs", "pictures", "tokens", "uploads"):
        importlib.import_module(f"assetserver.database.{name}")


def records_path(settings: Settings) -> str:
    """Return the file of the records, or "" where they are in PostgreSQL."""
    url = settings.database.url
    if url.startswith("postgresql"):
        return ""
    return os.path.join(data_folder(settings), "records.sqlite3") if url == "sqlite" else url.removeprefix(_SQLITE)


def snapshot_records(settings: Settings, target: str, now: float) -> set[str]:
    """Copy the records that are in a file to another, for a backup; return the blobs of uploads that they name."""
    from .database.snapshots import take_snapshot  # noqa: PLC0415 - SQLAlchemy takes 0.2 s
    from .database.sqlite import SqliteDatabase  # noqa: PLC0415 - as above

    database = SqliteDatabase(records_path(settings))
    try:
        database.open()
        return take_snapshot(database, target, now)
    finally:
        database.close()


def warn_of_records(settings: Settings) -> str:
    """Return what is wrong with the SQLite that would keep the records, or ""."""
    if settings.database.url.startswith("postgresql"):
        return ""
    from .database.drivers import choose_driver, is_affected  # noqa: PLC0415 - who keeps no records starts without

    driver = choose_driver()
    if not is_affected(driver.sqlite_version_info):
        return ""
    return (
        f"SQLite {driver.sqlite_version} can, very rarely, damage a database that several processes write to; 3.51.3 cannot. "
        "One process at a time moves its log, which avoids that; pip install pysqlite3 brings a newer SQLite"
    )


def open_local_blobs(folder: str) -> FileBlobs:
    """Return blobs that are files below ``folder``, wherever that is: a backup, or data that are being restored."""
    return FileBlobs(folder)


def open_media_blobs(settings: Settings) -> FileBlobs:
    """Return where the bytes of uploads are."""
    return FileBlobs(os.path.join(data_folder(settings), MEDIA, "blobs"))


def studio_folder(settings: Settings) -> str:
    """Return where pictures are that are being made; see ``pictures.scratch``."""
    return os.path.join(data_folder(settings), MEDIA, "studio")


def open_uploads(
    settings: Settings,
    records: Records,
    follow_up: FollowUp,
    picture_of: PictureOf,
    on_complete: Callable[[Upload], None] = lambda _: None,
    after_removal: AfterRemoval = lambda _, __: (),
) -> UploadService:
    """Return the service of uploads, whose records are ``records``; nothing is opened yet."""
    from .storage.staging import FileStaging  # noqa: PLC0415 - commands that receive nothing start without
    from .uploads.service import UploadService  # noqa: PLC0415 - as above

    blobs = open_media_blobs(settings)
    staging = FileStaging(os.path.join(data_folder(settings), MEDIA, "staging"), blobs)
    changed = open_changes(settings).move
    return UploadService(
        staging,
        blobs,
        records.uploads,
        settings.uploads,
        changed=changed,
        follow_up=follow_up,
        picture_of=picture_of,
        on_complete=on_complete,
        after_removal=after_removal,
    )


def open_changes(settings: Settings) -> ChangeMark:
    """Return the mark that moves when a name gets a newer upload, or an upload is removed."""
    return ChangeMark(os.path.join(data_folder(settings), MEDIA, "changes"))


def open_revocations(settings: Settings) -> ChangeMark:
    """Return the mark that moves when a token is revoked; who shares only the records sees it a second later."""
    return ChangeMark(os.path.join(data_folder(settings), "revocations"))


def load_signing_keys(settings: Settings) -> KeyRing:
    """Return the keys that sign URLs and grants: ``access.keys``, or those of the data folder, made if there are none."""
    return load_keys(settings.access.keys, os.path.join(data_folder(settings), KEY_FILE))


def open_empty(folder: str) -> Library:
    """Return a library of nothing in ``folder``, which is empty: for who only looks at what would be stored."""
    return Library(folder, FileBlobs(os.path.join(folder, "blobs")))


def open_kept(settings: Settings) -> Library:
    """As ``open_library``, for who wants what is there. Raises ``ReleaseMissingError`` if there is no data folder."""
    library = open_library(settings)
    if not os.path.exists(library.folder):
        problem = f"there is no data folder {short_path(library.folder)}; nothing was ever published there"
        raise ReleaseMissingError(f"{problem}. If it is elsewhere, name it with --data")
    check_folder(library)
    return library


def check_folder(library: Library) -> None:
    """Raise ``PublishError`` if a file is where the data folder should be."""
    if os.path.exists(library.folder) and not os.path.isdir(library.folder):
        raise PublishError(f"the data folder {short_path(library.folder)} is a file; name another with --data")


def choose_site(settings: Settings, wanted: str | None) -> str:
    """Return the name of the site that is meant: ``wanted``, or without it the only one there is.

    Raises ``ReleaseMissingError`` for one that the settings do not name: nobody would ever see what is published there.
    """
    names = list(dict.fromkeys(one.name for one in settings.sites)) or [SiteSettings().name]
    if wanted in names:
        return wanted
    listed = ", ".join(names)
    if wanted is None:
        if len(names) > 1:
            raise ReleaseMissingError(f"there are {len(names)} sites; say which with --site: {listed}")
        return names[0]
    near = difflib.get_close_matches(wanted.lower(), names, 1)
    guess = f"; did you mean {near[0]}?" if near else ";"
    known = f"the settings name {listed}" if settings.sites else f"without [[sites]] in the settings there is only {listed}"
    raise ReleaseMissingError(f"there is no site {wanted!r}{guess} {known}")


def open_site(settings: Settings, wanted: str | None) -> tuple[Library, Site]:
    """Return the releases that are kept, and the site that is meant. Raises what ``open_kept`` and ``choose_site`` do."""
    name = choose_site(settings, wanted)
    library = open_kept(settings)
    return library, library.site(name)


def served_sites(settings: Settings) -> tuple[SiteSettings, ...]:
    """Return the sites whose releases are served: those named, or one at ``/`` where nothing at all is named."""
    if settings.sites or settings.mounts:
        return settings.sites
    return (SiteSettings(),)


def publish_options(settings: Settings, site_name: str) -> PublishOptions:
    """Return how the site called ``site_name`` is published; one that is not served is published with the defaults."""
    from .releases.checks import CheckPolicy  # noqa: PLC0415 - who only serves starts without
    from .releases.publish import PublishOptions  # noqa: PLC0415 - as above
    from .releases.updating import DeltaPolicy  # noqa: PLC0415 - as above

    site = next((one for one in served_sites(settings) if one.name == site_name), SiteSettings(name=site_name))
    wanted = settings.publish
    policy = CheckPolicy(wanted.secrets, wanted.source_maps, wanted.missing_references, huge_file_bytes=wanted.huge_file_bytes)
    mount = "/" if site.prefix == "/" else site.prefix + "/"
    deltas = DeltaPolicy(0 if settings.deltas.mode == "off" else settings.deltas.releases, settings.deltas.limit_bytes)
    return PublishOptions(wanted.dialect, site.immutable, policy, mount, fallback=bool(site.fallback), deltas=deltas)


def check_signature(settings: Settings, library: Library) -> Callable[[ReleaseId], None] | None:
    """Return what raises ``SignatureError`` unless a trusted key has signed a release, or None if no key is configured."""
    if not settings.data.trusted_keys:
        return None
    from .releases.signing import SUFFIX, parse_public_key, verify_signature  # noqa: PLC0415 - who signs nothing starts without

    keys = [parse_public_key(text) for text in settings.data.trusted_keys]

    def check(release: ReleaseId) -> None:
        path = library.manifest_path(release)
        try:
            with open(path, "rb") as manifest, open(path + SUFFIX, encoding="utf-8", errors="surrogateescape") as signature:
                verify_signature(keys, manifest.read(), signature.read())
        except FileNotFoundError as error:
            raise SignatureError(
                f"release {release[:SHORT]} is not signed, and data.trusted_keys wants it: assetserver publish --sign KEY"
            ) from error
        except SignatureError as error:
            raise SignatureError(f"release {release[:SHORT]}: {error}") from error

    return check
