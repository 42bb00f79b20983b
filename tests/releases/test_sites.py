"""What a site serves, and how that changes: in one step, losing nobody's change."""

import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from assetserver.errors import ConflictError, LockedError, PublishError, ReleaseMissingError
from assetserver.releases.manifest import ReleaseId
from assetserver.releases.sites import (
    Published,
    Site,
    SiteState,
    activate,
    add_release,
    drop_releases,
    lock_site,
    needed_releases,
    parse_alias,
    previous_release,
    remove_alias,
    set_alias,
    unlock_site,
)

ONE, TWO, THREE = (ReleaseId(digit * 64) for digit in "123")
TWIN = ReleaseId("1111" + "f" * 60)
PROCESSES, CHANGES = 4, 25

CHANGER = """
import sys
from dataclasses import replace
from assetserver.releases.sites import Site, add_release
site = Site(sys.argv[1], "main")
for number in range(int(sys.argv[3])):
    release = f"{int(sys.argv[2]):032x}{number:032x}"
    site.change(lambda state: add_release(state, release, "", "", now=1.0))
"""


def keep(*releases: ReleaseId) -> SiteState:
    state = SiteState()
    for number, release in enumerate(releases):
        state = add_release(state, release, f"message {number}", "", now=float(number))
    return state


def test_releases_are_kept_in_the_order_of_publishing():
    assert keep(TWO, ONE).releases == (Published(TWO, 0.0, "message 0"), Published(ONE, 1.0, "message 1"))


def test_publishing_the_newest_release_again_changes_nothing_but_what_is_said_of_it():
    state = keep(ONE, TWO)
    assert add_release(state, TWO, "", "", now=9.0) == state
    assert add_release(state, TWO, "again", "", now=9.0).releases[-1] == Published(TWO, 1.0, "again")


def test_a_release_that_is_published_again_is_the_newest():
    state = add_release(keep(ONE, TWO), ONE, "", "", now=9.0)
    assert state.releases == (Published(TWO, 1.0, "message 1"), Published(ONE, 9.0, "message 0"))
    assert [one.id for one in drop_releases(state, 1, 9.5).releases] == [ONE]


@pytest.mark.parametrize("text", ["staging", "@staging", "a", "7", "123", "feature-x", "abcdeg", "beef-1", "z" * 63])
def test_what_can_stand_in_a_url_and_a_host_name_may_be_an_alias(text):
    assert parse_alias(text) == text.removeprefix("@")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("Feature/X", "write feature-x"),
        ("STAGING", "write staging"),
        ("-a-", "write a"),
        ("a.b", "write a-b"),
        ("@@a", "write a"),
        ("beef", "write at-beef"),
        ("2024", "write at-2024"),
        ("20.24", "write 20-24"),
        ("BEEF", "write at-beef"),
        ("1" * 64, "write at-1"),
        ("z" * 70, "write " + "z" * 63 + "$"),
        ("ü", "can$"),
        ("", "can$"),
        ("a\n", "write a"),
    ],
)
def test_no_other_may_and_one_that_may_is_suggested(text, remedy):
    with pytest.raises(PublishError, match=remedy) as refused:
        parse_alias(text)
    slug = str(refused.value).partition("write ")[2]
    assert not slug or parse_alias(slug) == slug
    if text:
        with pytest.raises(PublishError):
            add_release(keep(ONE), ONE, "", text)


def test_an_alias_is_set_on_a_kept_release_and_removed():
    state = set_alias(keep(ONE, TWO), "@qa", ONE[:8])
    assert state.aliases == {"qa": ONE}
    assert set_alias(state, "staging", "@qa").aliases == {"qa": ONE, "staging": ONE}
    assert remove_alias(state, "@qa").aliases == remove_alias(state, "qa").aliases == {}
    with pytest.raises(ReleaseMissingError, match="there is no alias @prod; there are @qa"):
        remove_alias(state, "prod")
    with pytest.raises(ReleaseMissingError, match="there is no release 9999"):
        set_alias(state, "qa", "9999")


def test_an_alias_of_an_older_version_never_hides_an_id():
    state = replace(keep(ONE, TWO), aliases={"1111": TWO, ONE: TWO})
    assert state.resolve("1111") == state.resolve(ONE) == ONE
    assert state.resolve("@1111") == TWO


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("c", "c is too short; write at least 4 digits"), ("", "no release is named"), ("@stagin", r"did you mean @staging\?")],
)
def test_what_is_nearly_a_name_is_refused_with_the_remedy(name, remedy):
    with pytest.raises(ReleaseMissingError, match=remedy):
        replace(keep(ONE), aliases={"staging": ONE}).resolve(name)


def test_who_cannot_go_further_back_is_told_how_to_go_forward():
    state = activate(activate(keep(ONE, TWO), ONE), TWO)
    back = activate(state, ONE, going_back=True)
    with pytest.raises(ReleaseMissingError, match=f"nothing older was active; to go forward: assetserver promote {TWO[:12]}$"):
        previous_release(back)


def test_an_alias_moves_to_what_is_published_under_it():
    state = add_release(keep(ONE), ONE, "", "staging")
    assert state.aliases == {"staging": ONE}
    assert add_release(state, TWO, "", "staging").aliases == {"staging": TWO}
    assert state.aliases == {"staging": ONE}


def test_what_is_activated_comes_first_in_the_history():
    state = activate(activate(keep(ONE, TWO), ONE), TWO)
    assert (state.active, state.history) == (TWO, (TWO, ONE))
    back = activate(state, ONE)
    assert (back.active, back.history) == (ONE, (ONE, TWO))


def test_activating_what_is_active_changes_nothing():
    state = activate(keep(ONE), ONE)
    assert activate(state, ONE) is state


def test_activation_goes_ahead_if_what_was_expected_is_active():
    state = activate(keep(ONE, TWO), ONE, if_active="")
    assert activate(state, TWO, if_active=ONE).active == TWO


@pytest.mark.parametrize(("active", "expected"), [(ONE, TWO), (ONE, ""), (None, ONE)])
def test_activation_is_refused_if_another_release_is_active(active, expected):
    state = replace(keep(ONE, TWO, THREE), active=active)
    with pytest.raises(ConflictError, match=active[:12] if active else "none"):
        activate(state, THREE, if_active=expected)


def test_a_locked_site_is_not_activated_even_if_nothing_would_change():
    state = replace(activate(keep(ONE), ONE), lock="audit until Friday")
    for release in (ONE, TWO):
        with pytest.raises(LockedError, match="audit until Friday"):
            activate(state, release)


def test_what_is_not_kept_is_not_activated():
    with pytest.raises(ReleaseMissingError, match=f"release {TWO[:12]} is not kept any more"):
        activate(keep(ONE), TWO)


def test_whoever_is_refused_by_a_lock_is_told_the_way_out():
    with pytest.raises(LockedError, match=r"audit.*assetserver unlock"):
        activate(lock_site(keep(ONE), "audit"), ONE)
    assert activate(unlock_site(lock_site(keep(ONE), "audit")), ONE).active == ONE


def test_a_lock_is_not_taken_over_for_another_reason():
    state = lock_site(keep(ONE), "audit")
    assert lock_site(state, "audit") == state
    with pytest.raises(LockedError, match="locked already: audit"):
        lock_site(state, "holidays")


def test_the_newest_releases_stay():
    assert [one.id for one in drop_releases(keep(ONE, TWO, THREE), 2, 9.0).releases] == [TWO, THREE]
    assert drop_releases(keep(ONE, TWO, THREE), 3, 9.0) == keep(ONE, TWO, THREE)
    assert drop_releases(keep(ONE, TWO, THREE), 0, 9.0).releases == ()


def test_releases_that_are_young_enough_stay():
    assert [one.id for one in drop_releases(keep(ONE, TWO, THREE), 0, 0.5).releases] == [TWO, THREE]


def test_what_is_active_was_active_or_has_an_alias_stays_whatever_its_age():
    state = keep(ONE, TWO, THREE, TWIN)
    for release in (THREE, ONE, TWO):
        state = activate(state, release)
    state = replace(state, aliases={"staging": TWIN})
    assert needed_releases(state) == {TWO, ONE, TWIN}
    after = drop_releases(state, 0, 9.0)
    assert [one.id for one in after.releases] == [ONE, TWO, TWIN]
    assert (after.active, after.history) == (TWO, (TWO, ONE))
    assert previous_release(after) == ONE


def test_a_locked_site_drops_releases_too():
    assert drop_releases(lock_site(keep(ONE, TWO), "audit"), 1, 9.0).releases == keep(ONE, TWO).releases[1:]


def test_the_previous_release_is_what_was_active_before():
    state = keep(ONE, TWO, THREE)
    for release in (ONE, TWO, THREE):
        state = activate(state, release)
    assert previous_release(state) == TWO


def test_a_previous_release_that_is_not_kept_is_passed_over():
    state = replace(keep(ONE, THREE), active=THREE, history=(THREE, TWO, ONE))
    assert previous_release(state) == ONE


@pytest.mark.parametrize("state", [SiteState(), keep(ONE, TWO), activate(keep(ONE, TWO), TWO)], ids=["new", "none", "first"])
def test_without_an_earlier_release_there_is_no_previous_one(state):
    with pytest.raises(ReleaseMissingError, match="nothing to roll back to"):
        previous_release(state)


@pytest.mark.parametrize("name", [TWO, TWO[:4], TWO[:12], "staging", "@staging"])
def test_a_release_is_found_by_id_prefix_and_alias(name):
    assert replace(keep(ONE, TWO), aliases={"staging": TWO}).resolve(name) == TWO


def test_digits_are_found_in_either_case():
    release = ReleaseId("abcd" * 16)
    assert keep(release).resolve("ABCDAB") == release


def test_a_prefix_of_two_releases_is_ambiguous():
    with pytest.raises(ReleaseMissingError, match="1111 is the beginning of 2 releases"):
        keep(ONE, TWIN).resolve("1111")
    assert keep(ONE, TWIN).resolve("1111f") == TWIN


@pytest.mark.parametrize("name", ["", "@", "222", "2" * 65, "@main", "nothing"])
def test_what_means_no_release_is_an_error_that_says_what_there_is(name):
    with pytest.raises(ReleaseMissingError, match=f"{ONE[:12]}, {TWO[:12]}, @staging"):
        replace(keep(ONE, TWO), aliases={"staging": TWO}).resolve(name)


def test_a_site_never_published_to_is_empty(tmp_path):
    assert Site(str(tmp_path), "main").read() == SiteState()
    with pytest.raises(ReleaseMissingError, match="none yet"):
        SiteState().resolve("1234")


@pytest.mark.parametrize("name", ["main", "a", "docs.example.org", "a-b_c", "0" * 63])
def test_a_site_may_be_called_like_a_host(tmp_path, name):
    assert Site(str(tmp_path), name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "A", ".hidden", "a.", "-a", "a\n", "ü", "0" * 64])
def test_a_site_cannot_have_a_name_that_is_no_plain_folder(tmp_path, name):
    with pytest.raises(PublishError, match="cannot name a site"):
        Site(str(tmp_path), name)


def test_a_change_is_read_back_by_others(tmp_path):
    site = Site(str(tmp_path), "main")
    after = site.change(lambda state: replace(activate(add_release(state, ONE, "hällo", "staging"), ONE), lock="why"))
    assert after.generation == 1
    assert Site(str(tmp_path), "main").read() == after


def test_a_change_that_changes_nothing_writes_nothing(tmp_path):
    site = Site(str(tmp_path), "main")
    assert site.change(lambda state: state).generation == 0
    before = site.change(lambda state: add_release(state, ONE, "", ""))
    assert site.change(lambda state: add_release(state, ONE, "", "")) == before


def test_a_change_that_fails_leaves_the_state(tmp_path):
    site = Site(str(tmp_path), "main")
    before = site.change(lambda state: replace(add_release(state, ONE, "", ""), lock="locked"))
    with pytest.raises(LockedError):
        site.change(lambda state: activate(state, ONE))
    assert site.read() == before


def test_a_damaged_state_is_an_error_that_names_the_file(tmp_path):
    site = Site(str(tmp_path), "main")
    site.change(lambda state: add_release(state, ONE, "", ""))
    with open(site.path, "w") as file:
        file.write('{"generation": "')
    with pytest.raises(PublishError, match=r"state\.json is damaged"):
        site.read()


def test_no_change_of_many_processes_is_lost_and_readers_see_whole_states(tmp_path):
    site = Site(str(tmp_path), "main")
    processes = [
        subprocess.Popen([sys.executable, "-c", CHANGER, str(tmp_path), str(number), str(CHANGES)])
        for number in range(PROCESSES)
    ]
    ended = threading.Event()
    seen = [0]

    def watch() -> None:
        while not ended.is_set():
            state = site.read()
            assert state.generation == len(state.releases)
            seen.append(state.generation)

    watcher = threading.Thread(target=watch)
    watcher.start()
    codes = [process.wait(60) for process in processes]
    ended.set()
    watcher.join()
    assert codes == [0] * PROCESSES
    assert seen == sorted(seen)
    state = site.read()
    assert state.generation == len({one.id for one in state.releases}) == PROCESSES * CHANGES
