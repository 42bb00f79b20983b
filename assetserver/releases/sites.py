"""What a site serves, and the one step in which that changes.

A site's state is one file, replaced atomically under a lock and compare-and-swap: whoever reads it sees the state before an
activation or the one after. A state never names a release whose manifest, blobs and index are not durable.
"""

from __future__ import annotations

import difflib
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
_ALIAS = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DIGITS = re.compile(r"[0-9a-f]+")
_SHORTEST = 4
_LONGEST = 63
MOST_UNPURGED = 100
"""Of a site that nobody purges no more are remembered: with as many, everything is to be purged."""
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Published:
    """A kept release of a site: when it was published (seconds since 1970) and what was said of it."""

    id: ReleaseId
    published: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class SiteState:
    """A site at one moment. ``generation`` grows with every change; ``history`` holds what was active, the newest first.

    ``unpurged``: releases of which caches in front may still hold answers, "" for none at all; see ``activate``.
    """

    generation: int = 0
    active: ReleaseId | None = None
    history: tuple[ReleaseId, ...] = ()
    releases: tuple[Published, ...] = ()
    aliases: dict[str, ReleaseId] = field(default_factory=dict)
    lock: str = ""
    unpurged: tuple[str, ...] = ()

    def resolve(self, name: str) -> ReleaseId:
        """Return the release that ``name`` means: an id, its first four or more digits, or an alias (``@staging``).

        An id wins over an alias of the same letters, unless that is written with ``@``. Raises ``ReleaseMissingError``, with
        what there is.
        """
        digits = name.lower()
        found = {one.id for one in self.releases if len(name) >= _SHORTEST and one.id.startswith(digits)}
        if len(found) == 1:
            return found.pop()
        if found:
            raise ReleaseMissingError(f"{name} is the beginning of {len(found)} releases; write more of it")
        if alias := self.aliases.get(name.removeprefix("@")):
            return alias
        known = ", ".join([one.id[:SHORT] for one in self.releases[-3:]] + [f"@{alias}" for alias in sorted(self.aliases)])
        raise ReleaseMissingError(f"{self._explain_missing(name)} there are {known or 'none yet'}")

    def _explain_missing(self, name: str) -> str:
        alias = name.removeprefix("@")
        if not alias:
            return "no release is named; write an id, its first 4 or more digits, or an @alias;"
        if len(name) < _SHORTEST and _DIGITS.fullmatch(name.lower()):
            return f"{name} is too short; write at least {_SHORTEST} digits of the id;"
        near = difflib.get_close_matches(alias, self.aliases, 1)
        return f"there is no release {name}" + (f"; did you mean @{near[0]}?" if near else ";")


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


def parse_alias(text: str) -> str:
    """Return the alias that ``text`` is, without a leading ``@``: it stands in URLs and host names, and is never an id.

    Raises ``PublishError`` for another, with one that would do.
    """
    alias = text.removeprefix("@")
    is_id = len(alias) >= _SHORTEST and _DIGITS.fullmatch(alias)
    if _ALIAS.fullmatch(alias) and not is_id:
        return alias
    slug = re.sub(r"[^a-z0-9]+", "-", alias.lower()).strip("-")[:_LONGEST].rstrip("-")
    if is_id or (len(slug) >= _SHORTEST and _DIGITS.fullmatch(slug)):
        slug = f"at-{slug}"[:_LONGEST]
    problem = "reads as the beginning of a release's id" if is_id else "can be no part of a URL and a host name"
    remedy = f"; write {slug}" if slug else ""
    raise PublishError(f"{text!r} cannot be an alias, for it {problem}: lower-case letters, digits and hyphens can{remedy}")


def add_release(state: SiteState, release: ReleaseId, message: str, alias: str, *, now: float | None = None) -> SiteState:
    """Return the state with ``release`` kept, as the newest, and meant by ``alias``, if any.

    One that is the newest already keeps its date. A ``message`` takes the place of what was said of it before. Raises
    ``PublishError`` for what cannot be an alias.
    """
    known = next((one for one in state.releases if one.id == release), None)
    published = time.time() if now is None else now
    if known is not None and known is state.releases[-1]:
        published = known.published
    newest = Published(release, round(published, 3), message or (known.message if known else ""))
    releases = (*(one for one in state.releases if one.id != release), newest)
    aliases = {**state.aliases, parse_alias(alias): release} if alias else state.aliases
    return replace(state, releases=releases, aliases=aliases)


def set_alias(state: SiteState, alias: str, release: str) -> SiteState:
    """Return the state where ``alias`` means ``release``: an id, its beginning, or another alias.

    Raises ``PublishError`` for what cannot be an alias, and ``ReleaseMissingError`` for what means no kept release.
    """
    return replace(state, aliases={**state.aliases, parse_alias(alias): state.resolve(release)})


def remove_alias(state: SiteState, alias: str) -> SiteState:
    """Return the state without ``alias``; what it meant stays kept. Raises ``ReleaseMissingError`` if there is none."""
    name = alias.removeprefix("@")
    if name not in state.aliases:
        known = ", ".join(f"@{one}" for one in sorted(state.aliases))
        raise ReleaseMissingError(f"there is no alias @{name}; there are {known or 'none'}")
    return replace(state, aliases={one: meant for one, meant in state.aliases.items() if one != name})


def activate(
    state: SiteState,
    release: ReleaseId,
    *,
    if_active: str | None = None,
    going_back: bool = False,
    owes_purge: bool = False,
) -> SiteState:
    """Return the state with ``release`` active. ``going_back``: what was active after it is history no more.

    ``owes_purge``: what was active is unpurged from now on, recorded with the activation itself, until ``settle_purge``.

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
    unpurged = tuple(dict.fromkeys((*state.unpurged, state.active or "")))[-MOST_UNPURGED:] if owes_purge else ()
    return replace(state, active=release, history=history, unpurged=unpurged)


def settle_purge(state: SiteState, settled: SiteState) -> SiteState:
    """Return the state that owes no purge any more, if it is still the one for which purges were ordered."""
    return replace(state, unpurged=()) if state.generation == settled.generation else state


def previous_release(state: SiteState) -> ReleaseId:
    """Return what was active before the active release. Raises ``ReleaseMissingError`` if nothing was."""
    kept = {one.id for one in state.releases}
    for release in state.history[1:]:
        if release in kept:
            return release
    if not state.releases or state.releases[-1].id == state.active:
        raise ReleaseMissingError("there is nothing to roll back to: no other release was active before")
    raise ReleaseMissingError(
        f"there is nothing to roll back to: nothing older was active; to go forward: "
        f"assetserver promote {state.releases[-1].id[:SHORT]}"
    )


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
