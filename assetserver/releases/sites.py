"""What a site serves, and the one step in which that changes.

A site's state is one file, replaced atomically under a lock and compare-and-swap: whoever reads it sees the state before an
activation or the one after. A state never names a release whose manifest, blobs and index are not durable.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec

from assetserver.errors import ConflictError, LockedError, PublishError, ReleaseMissingError
from assetserver.storage.durable import locked, replace_durably

from .manifest import SHORT, ReleaseId

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_SHORTEST = 4
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Published:
    """A kept release of a site: when it was published (seconds since 1970) and what was said of it."""

    id: ReleaseId
    published: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class SiteState:
    """A site at one moment. ``generation`` grows with every change; ``history`` holds what was active, the newest first."""

    generation: int = 0
    active: ReleaseId | None = None
    history: tuple[ReleaseId, ...] = ()
    releases: tuple[Published, ...] = ()
    aliases: dict[str, ReleaseId] = field(default_factory=dict)
    lock: str = ""

    def resolve(self, name: str) -> ReleaseId:
        """Return the release that ``name`` means: an id, its first four or more digits, or an alias (``@staging``).

        Raises ``ReleaseMissingError``, with what there is.
        """
        if alias := self.aliases.get(name.removeprefix("@")):
            return alias
        found = {one.id for one in self.releases if len(name) >= _SHORTEST and one.id.startswith(name.lower())}
        if len(found) == 1:
            return found.pop()
        if found:
            raise ReleaseMissingError(f"{name} is the beginning of {len(found)} releases; write more of it")
        known = ", ".join([one.id[:SHORT] for one in self.releases[-3:]] + [f"@{alias}" for alias in self.aliases])
        raise ReleaseMissingError(f"there is no release {name}; there are {known or 'none yet'}")


class Site:
    """The state of one site in ``folder``; any number of processes may read and change it."""

    def __init__(self, folder: str, name: str) -> None:
        if _NAME.fullmatch(name) is None:
            raise PublishError(f"{name!r} cannot name a site: write lower-case letters, digits, dots and hyphens")
        self.name = name
        self.folder = os.path.join(folder, name)
        self.path = os.path.join(self.folder, "state.json")

    def read(self) -> SiteState:
        """Return the state now, empty for a site never published to. Raises ``PublishError`` for a damaged one."""
        try:
            with open(self.path, "rb") as file:
                return msgspec.json.decode(file.read(), type=SiteState)
        except FileNotFoundError:
            return SiteState()
        except msgspec.DecodeError as error:
            raise PublishError(
                f"{self.path} is damaged ({error}); bring it back from a copy, or remove it and publish"
            ) from error

    def is_state_lost(self) -> bool:
        """Tell whether the site was published to and has no state: what it served is not known any more."""
        if os.path.exists(self.path) or not os.path.isdir(self.folder):
            return False
        names = os.listdir(self.folder)  # indexes are written before the state is, and stay
        return any(name != _LOCK and not name.startswith(".") for name in names)

    def change(self, how: Callable[[SiteState], SiteState]) -> SiteState:
        """Replace the state by what ``how`` makes of it, in one step, and return it. Nobody else changes it meanwhile."""
        with locked(os.path.join(self.folder, _LOCK)):
            before = self.read()
            after = how(before)
            if after == before:
                return before
            after = replace(after, generation=before.generation + 1)
            replace_durably(self.path, msgspec.json.format(msgspec.json.encode(after), indent=1) + b"\n")
            return after


def add_release(state: SiteState, release: ReleaseId, message: str, alias: str, *, now: float | None = None) -> SiteState:
    """Return the state with ``release`` kept, as the newest; one that is kept already stays where it is."""
    releases = state.releases
    if all(one.id != release for one in releases):
        releases = (*releases, Published(release, round(time.time() if now is None else now, 3), message))
    aliases = {**state.aliases, alias: release} if alias else state.aliases
    return replace(state, releases=releases, aliases=aliases)


def activate(state: SiteState, release: ReleaseId, *, if_active: str | None = None, going_back: bool = False) -> SiteState:
    """Return the state with ``release`` active. ``going_back``: what was active after it is history no more.

    ``if_active``: raise ``ConflictError`` unless the active release is this one ("" for none). Raises ``LockedError`` for a
    locked site, and ``ReleaseMissingError`` for a release that is not kept: its blobs may be collected at any moment.
    Activating what is active changes nothing.
    """
    if state.lock:
        raise LockedError(f"the site is locked: {state.lock}; to change what it serves: assetserver unlock")
    if if_active is not None and (state.active or "") != if_active:
        raise ConflictError(f"another release is active: {(state.active or 'none')[:SHORT]}; look at it, then try again")
    if state.active == release:
        return state
    if all(one.id != release for one in state.releases):
        raise ReleaseMissingError(f"release {release[:SHORT]} is not kept any more; publish it again")
    older = state.history
    if going_back and release in older:
        older = older[older.index(release) :]
    history = (release, *(one for one in older if one != release))
    return replace(state, active=release, history=history)


def previous_release(state: SiteState) -> ReleaseId:
    """Return what was active before the active release. Raises ``ReleaseMissingError`` if nothing was."""
    kept = {one.id for one in state.releases}
    for release in state.history[1:]:
        if release in kept:
            return release
    raise ReleaseMissingError("there is nothing to roll back to: no other release was active before")


def lock_site(state: SiteState, reason: str) -> SiteState:
    """Return the state locked against activation. Raises ``LockedError`` if it is locked for another reason."""
    if state.lock and state.lock != reason:
        raise LockedError(f"the site is locked already: {state.lock}; to lock it for another reason: assetserver unlock")
    return replace(state, lock=reason)


def unlock_site(state: SiteState) -> SiteState:
    """Return the state open for activation; may be repeated."""
    return replace(state, lock="")


def needed_releases(state: SiteState) -> set[ReleaseId]:
    """Return what must stay whatever its age: the active release, what rolling back leads to, and what aliases mean."""
    needed = {state.active, *state.aliases.values()}
    with suppress(ReleaseMissingError):
        needed.add(previous_release(state))
    return {one for one in needed if one is not None}


def drop_releases(state: SiteState, keep: int, newer_than: float) -> SiteState:
    """Return the state with the ``keep`` newest releases, those published after ``newer_than``, and those that are needed.

    What is dropped is history no more. ``newer_than``: seconds since 1970. A lock does not matter: what is served stays.
    """
    newest = sorted(state.releases, key=lambda one: one.published)[-keep:] if keep else []
    stay = needed_releases(state) | {one.id for one in newest}
    releases = tuple(one for one in state.releases if one.id in stay or one.published > newer_than)
    kept = {one.id for one in releases} | stay
    return replace(state, releases=releases, history=tuple(one for one in state.history if one in kept))
