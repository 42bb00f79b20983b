"""Where to listen: sockets that were passed, those that a master before us had, or those that the settings name."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Mapping, MutableMapping, Sequence

from .errors import ListenError, SettingsError
from .settings import Settings
from .supervision.handover import UNIX, Listener
from .supervision.passed import adopt_listener, parse_passed, take_passed

BACKLOG = 4096

Identity = tuple[int, int]
"""Device and inode of a file."""

HTTP, ADMIN = "http", "admin"
"""Roles of sockets: for everybody, and for what stands under ``/-/``."""

PASSED = "systemd"
"""The place of a socket that whoever started us has opened."""


def take_sockets(
    settings: Settings, environ: MutableMapping[str, str], known: Sequence[Listener] = ()
) -> dict[str, list[Listener]]:
    """Return the listening sockets by role; who connects from now on waits, and is not refused.

    Those that were passed, by ``environ`` or to a master before us (``known``): one named ``admin`` is for that role, all
    others are for everybody, and then the settings say nothing. Else those that the settings name, which are ``known`` if
    their place is the same. Raises ``ListenError`` if the address cannot be had, ``SettingsError`` for what was passed and is
    no socket.
    """
    found = [one for one in known if one.place == PASSED]
    for name, one in take_passed(environ):
        found.append(Listener(ADMIN if name == ADMIN else HTTP, PASSED, one))
    if not any(one.role == HTTP for one in found):
        place = _place(settings)
        same = next((one for one in known if one.place == place), None)
        found.append(same or Listener(HTTP, place, open_listener(settings)))
    if not any(one.role == ADMIN for one in found) and (listen := settings.admin.listen):
        same = next((one for one in known if one.place == _admin_place(listen)), None)
        found.append(same or Listener(ADMIN, _admin_place(listen), _open_admin(settings)))
    roles = {one.role for one in found}
    return {role: [one for one in found if one.role == role] for role in sorted(roles, reverse=True)}


def has_admin(settings: Settings, environ: Mapping[str, str], known: Sequence[Listener] = ()) -> bool:
    """Tell whether ``take_sockets`` will find a socket for what stands under ``/-/``. Opens nothing."""
    names = [one.name for one in parse_passed(environ, os.getpid())]
    return bool(settings.admin.listen) or ADMIN in names or any((one.role, one.place) == (ADMIN, PASSED) for one in known)


def mark_listeners(listeners: Sequence[Listener]) -> dict[str, Identity]:
    """Return what identifies the Unix sockets that we made, by path."""
    paths = [one.place.removeprefix(UNIX) for one in listeners if one.place.startswith(UNIX)]
    return {path: mark for path in paths if (mark := identify(path)) is not None}


def close_listeners(listeners: Sequence[Listener], marks: Mapping[str, Identity]) -> None:
    """Close sockets; Unix sockets that we made are removed if they still are those that ``marks`` identify."""
    for one in listeners:
        one.socket.close()
    for path, mark in marks.items():
        if identify(path) == mark:  # not the socket of whoever came after us
            os.unlink(path)


def open_listener(settings: Settings) -> socket.socket:
    """Return the listening socket that the settings name: inherited, Unix or TCP.

    The protocol number is given, since asyncio sets TCP_NODELAY only where it is: without, every keep-alive answer waits 44 ms
    for a delayed acknowledgement (measured 2026-11-22). For the same reason an inherited descriptor is wrapped here and not by
    Uvicorn. Raises ``ListenError`` when the address cannot be had.
    """
    server = settings.server
    try:
        if server.fd >= 0:
            return adopt_listener(server.fd, settings.locate("server", "fd"))
        return _open_unix(server.uds) if server.uds else _open_tcp(server.host, server.port)
    except (OSError, SettingsError) as error:
        raise ListenError(_explain(settings, error)) from error


def _open_admin(settings: Settings) -> socket.socket:
    listen = settings.admin.listen
    host, _, port = listen.rpartition(":")
    try:
        return _open_unix(listen) if _is_path(listen) else _open_tcp(host.strip("[]"), int(port))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ListenError(f"{settings.locate('admin', 'listen')}: cannot listen on {listen}: {reason}") from error


def _is_path(listen: str) -> bool:
    return listen.startswith(("/", "./"))


def _admin_place(listen: str) -> str:
    return UNIX + listen if _is_path(listen) else f"admin {listen}"


def _open_tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket, scheme: str = "http") -> str:
    """Return where ``listener`` can be reached, as a URL or a path."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"


def leaves_machine(listener: socket.socket) -> bool:
    """Tell whether what a listener sends may travel further than this machine: not from a Unix socket, nor from loopback."""
    return listener.family != socket.AF_UNIX and not is_loopback(listener.getsockname()[0])


def is_loopback(address: str) -> bool:
    """Tell whether an IP address is this machine's own for itself."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if found.version == 6 else None  # noqa: PLR2004 - IPv6
    return (mapped or found).is_loopback


def _place(settings: Settings) -> str:
    server = settings.server
    if server.fd >= 0:
        return f"descriptor {server.fd}"
    return UNIX + server.uds if server.uds else f"{server.host}:{server.port}"


def _open_unix(path: str) -> socket.socket:
    """Bind a Unix socket; one that nobody listens on any more is replaced, a live one is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            os.unlink(path)
            listener.bind(path)
        os.chmod(path, 0o660)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_abandoned(path: str) -> bool:
    """Tell whether ``path`` is a socket that nobody listens on; a file is nobody's to remove but its owner's."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False


def identify(path: str) -> Identity | None:
    """Return what tells the socket file at ``path`` from another one put in its place, or None."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def _explain(settings: Settings, error: OSError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    server = settings.server
    where = server.uds or f"{server.host}:{server.port}"
    reason = (error.strerror or str(error)).lower()
    if server.uds and os.path.exists(server.uds) and identify(server.uds) is None:
        return f"{server.uds} is a file, not a socket; choose another path with --uds"
    if error.errno == errno.EADDRINUSE:
        remedy = "stop it first" if server.uds else "choose another with --port, or --port 0 for any free one"
        return f"{where} is taken by another program; {remedy}"
    return f"cannot listen on {where}: {reason}"
