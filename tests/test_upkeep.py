"""Compare, verify, collect and lock from the command line, as a person meets it; and a disk that is full."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner, Result

from assetserver.cli import main

TEXT = b"the same words again and again, " * 40


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ASSETSERVER_")]:
        monkeypatch.delenv(name)
    return lambda *arguments: CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture
def run(call: Callable[..., Result]) -> Callable[..., str]:
    def succeed(*arguments: object) -> str:
        result = call(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    return succeed


@pytest.fixture
def publish(run: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """``publish(files, *arguments)`` publishes and returns the first digits of the release's id."""
    count = 0

    def publish_files(files: dict[str, bytes], *arguments: str) -> str:
        nonlocal count
        count += 1
        for name, content in files.items():
            path = tmp_path / f"build-{count}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return json.loads(run("publish", f"build-{count}", "--json", *arguments))["id"][:12]

    return publish_files


def refuse(result: Result, *words: str) -> None:
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.output.startswith("error: ")
    for word in words:
        assert word in result.output


def test_what_differs_is_told_by_kind_with_sizes(run, publish):
    one = publish({"a.txt": b"1" * 2000, "b": b"2", "old": b"moved", "same": b"="}, "--prod")
    two = publish({"a.txt": b"1", "c": b"333", "new": b"moved", "same": b"="}, "--alias", "staging")
    lines = run("diff", one, two).splitlines()
    assert lines[0] == f"{one} (active) → {two} (@staging)"
    assert [line.split()[:2] for line in lines[1:-3]] == [
        ["changed", "a.txt"],
        ["renamed", "old"],
        ["added", "c"],
        ["removed", "b"],
    ]
    assert lines[1].endswith("2.0 kB →      1 B       1 B with br")
    assert lines[4].endswith("1 B →")
    assert lines[-3] == "1 changed, 1 renamed, 1 added, 1 removed, 1 the same"
    assert lines[-2].startswith("4 → 4 files, 2.0 kB → 10 B (-2.0 kB), with br ")
    assert lines[-1] == "first visit 10 B, returning visit 9 B"


def test_what_returning_visitors_get_is_told(run, publish):
    old = b"".join(b".c%d { order: %d }\n" % (number, number * number) for number in range(200))
    publish({"app.css": old, "index.html": b"<p>1"}, "--prod")
    two = publish({"app.css": old.replace(b".c7 ", b".d7 "), "index.html": b"<p>2"})
    found = json.loads(run("diff", two, "--json"))
    delta = found["changes"][0]["delta"]
    assert [one["delta"] for one in found["changes"]] == [delta, None]
    plain = found["changes"][0]["after"]["br"]
    assert 40 < delta < plain / 3
    assert found["visits"] == {"first": plain + 4, "returning": delta + 4, "returning_plain": plain + 4}
    lines = run("diff", two).splitlines()
    assert lines[1].endswith(f"{delta} B as a delta")
    assert lines[-1] == f"first visit {plain + 4} B, returning visit {delta + 4} B ({plain + 4} B without deltas)"


def test_one_release_alone_is_compared_with_what_is_live(run, publish, call):
    one = publish({"a": b"1"})
    refuse(call("diff", one), "nothing is active")
    run("promote", one)
    two = publish({"a": b"2"}, "--alias", "staging")
    assert run("diff", "@staging") == run("diff", one, two)
    refuse(call("diff", "@nothing"), "there is no release @nothing")


def test_long_lists_are_cut_by_kind_unless_all_is_wanted(run, publish):
    publish({f"old-{number}.txt": b"%d" % number for number in range(12)}, "--prod")
    two = publish({f"new-{number}.txt": b"n%d" % number for number in range(30)})
    lines = run("diff", two).splitlines()
    assert len(lines) == 1 + 11 + 11 + 3
    assert "… and 20 more; --all lists them" in lines[11]
    assert "… and 2 more; --all lists them" in lines[22]
    everything = run("diff", two, "--all")
    assert len(everything.splitlines()) == 1 + 30 + 12 + 3
    assert "more" not in everything


def test_differences_can_be_had_as_json(run, publish):
    one, two = publish({"a": b"1"}, "--prod"), publish({"a": b"22"})
    found = json.loads(run("diff", two, "--json"))
    assert (found["before"][:12], found["after"][:12]) == (one, two)
    assert found["changes"] == [
        {"kind": "changed", "old": "a", "new": "a", "before": {"raw": 1, "br": 1}, "after": {"raw": 2, "br": 2}, "delta": None}
    ]


def test_what_is_sound_is_said_in_one_line(run, publish):
    publish({"a": b"1", "b": b"2"}, "--prod")
    lines = run("verify").splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("checked 1 release, 2 blobs, 2 B, in ")
    assert lines[0].endswith(": all sound")


def test_each_fault_is_a_line_that_says_what_to_do_and_publishing_heals_it(run, call, publish, tmp_path):
    one = publish({"a.txt": b"damage me", "b": b"2"}, "--prod")
    blob = next(path for path in (tmp_path / "data" / "blobs").glob("*/*") if path.read_bytes() == b"damage me")
    blob.chmod(0o644)
    blob.write_bytes(b"damage ME")
    result = call("verify", one)
    assert result.exit_code == 1
    fault, summary = result.output.splitlines()
    assert fault == (
        f"a.txt of {one}: blob {blob.name[:12]} is damaged: its bytes were altered; "
        "run assetserver verify --repair, then publish these files again"
    )
    assert summary.endswith(": 1 fault")
    found = json.loads(call("verify", "--json").output)
    assert (found["sound"], found["faults"][0]["blob"]) == (False, blob.name)
    assert call("verify", "--repair").exit_code == 1
    assert not blob.exists()
    run("publish", "build-1")
    assert json.loads(run("verify", "--json"))["sound"]


def test_old_releases_go_and_rolling_back_still_works(run, call, publish):
    one, two, three = (publish({"a": b"%d" % number}, "--prod") for number in range(3))
    told = run("gc", "--keep", "0", "--keep-days", "0", "--dry-run")
    assert f"site default would drop {one}" in told
    assert "would remove 1 release, 5 indexes, 1 manifest, 1 blob (" in told
    done = run("gc", "--keep", "0", "--keep-days", "0")
    assert f"site default dropped {one}" in done
    assert re.fullmatch(
        r"removed 1 release, 5 indexes, 1 manifest, 1 blob \([\d.]+ k?B\); 2 releases stay", done.splitlines()[-1]
    )
    assert run("gc", "--keep", "0", "--keep-days", "0") == "nothing to remove; 2 releases stay\n"
    refuse(call("promote", one), f"there is no release {one}", two, three)
    assert run("rollback") == f"rolled back from {three} to {two}\n"


def test_by_default_ten_releases_and_thirty_days_stay(run, publish):
    for number in range(12):
        publish({"a": b"%d" % number})
    assert json.loads(run("gc", "--json"))["releases"] == []
    report = json.loads(run("gc", "--keep-days", "0", "--json"))
    assert (len(report["releases"]), report["kept"], report["files"]["blob"]) == (2, 10, 2)


@pytest.mark.parametrize("option", [("--keep", "-1"), ("--keep-days", "-1"), ("--keep", "x")])
def test_what_cannot_be_kept_is_a_usage_error(call, option):
    assert call("gc", *option).exit_code == 2


def test_nothing_is_collected_while_damage_hides_what_is_needed(call, run, publish, tmp_path):
    publish({"a": b"1"}, "--prod")
    (manifest,) = (tmp_path / "data" / "releases").glob("*.json")
    manifest.write_bytes(b"{}")
    refuse(call("gc"), "nothing is removed", "damaged; publish it again", "assetserver verify")
    run("publish", "build-1")
    assert "1 release stays" in run("gc")


def test_a_lock_refuses_with_its_reason_until_it_is_opened(call, run, publish):
    one, two = publish({"a": b"1"}, "--prod"), publish({"a": b"2"}, "--prod")
    assert run("lock", "-m", "audit until Friday") == "site default is locked: audit until Friday\n"
    for command in (["promote", one], ["rollback"], ["publish", "build-1", "--prod"]):
        refuse(call(*command), "audit until Friday", "assetserver unlock")
    refuse(call("lock", "-m", "holidays"), "locked already: audit until Friday")
    assert "not live yet" in run("publish", "build-1")
    assert run("unlock") == "site default is unlocked; it was locked: audit until Friday\n"
    assert run("unlock") == "site default was not locked\n"
    assert run("rollback") == f"rolled back from {two} to {one}\n"


def test_a_lock_without_a_reason_says_since_when(run, publish):
    publish({"a": b"1"})
    assert re.fullmatch(r"site default is locked: since 20..-..-.. ..:..:..Z\n", run("lock"))


def test_aliases_are_set_listed_told_and_removed(call, run, publish):
    one, two = publish({"a": b"1"}), publish({"a": b"2"})
    assert run("alias") == "site default has no aliases: assetserver alias NAME RELEASE\n"
    assert run("alias", "staging", one) == f"@staging means {one}\n"
    assert run("alias", "@qa", "@staging") == f"@qa means {one}\n"
    assert run("alias", "@staging", two) == f"@staging means {two}; before it was {one}\n"
    assert run("alias") == f"@qa {one}\n@staging {two}\n"
    assert run("alias", "staging") == f"@staging means {two}\n"
    assert {name: meant[:12] for name, meant in json.loads(run("alias", "--json"))["aliases"].items()} == {
        "qa": one,
        "staging": two,
    }
    refuse(call("alias", "stagin"), "did you mean @staging?")
    refuse(call("alias", "QA 2", one), "write qa-2")
    refuse(call("alias", "qa", "9999"), "there is no release 9999")
    refuse(call("alias", "--remove", "prod"), "there is no alias @prod; there are @qa, @staging")
    assert "2 releases stay" in run("gc", "--keep", "0", "--keep-days", "0")
    assert run("alias", "--remove", "@qa") == "@qa is removed; what it meant stays until gc\n"
    assert f"dropped {one}" in run("gc", "--keep", "0", "--keep-days", "0")


def test_what_is_kept_is_read_whole_without_a_site_being_named(run, tmp_path):
    (tmp_path / "assetserver.toml").write_text('[[sites]]\nname = "a"\n[[sites]]\nname = "b"\nprefix = "/b"\n')
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/index.html").write_text("1")
    run("publish", "dist", "--site", "b")
    assert "checked 1 release" in run("verify")
    assert "1 release stays" in run("gc")


def test_a_collection_waits_for_publishing_and_says_so(publish, tmp_path):
    from assetserver.releases.collect import publishing_lock  # noqa: PLC0415

    publish({"a": b"1"}, "--prod")
    command = [sys.executable, "-m", "assetserver", "gc", "--data", str(tmp_path / "data")]
    with publishing_lock(str(tmp_path / "data")):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = process.stderr.readline()
        assert "waiting for another command" in line
        assert process.poll() is None
    out, rest = process.communicate(timeout=60)
    assert (process.returncode, rest, out) == (0, "", "nothing to remove; 1 release stays\n")


@pytest.fixture
def small_disk(tmp_path: Path, missing: Callable[[str], NoReturn]) -> Iterator[Path]:
    """A folder on a disk of its own, of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount") or "/bin/mount"
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        missing("the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_what_was_live_stays_and_publishing_goes_on(call, run, publish, small_disk, tmp_path):
    data = ("--data", str(small_disk / "data"))
    one = publish({"a.txt": TEXT, "b": b"1"}, "--prod", *data)
    large = tmp_path / "large"
    large.mkdir()
    for number in range(6):
        (large / f"{number}.bin").write_bytes(os.urandom(1 << 20))
    refuse(call("publish", "large", "--prod", *data), "the disk is full", str(small_disk), "assetserver gc")
    assert [(row["id"][:12], row["active"]) for row in json.loads(run("releases", "--json", *data))] == [(one, True)]
    assert "all sound" in run("verify", *data)

    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):  # until not one byte is left, not even for a state
            pass
    assert "blob" in run("gc", *data)
    (small_disk / "filler").unlink()
    for number in range(4):
        (large / f"{number}.bin").unlink()
    two = json.loads(run("publish", "large", "--prod", "--json", *data))["id"][:12]
    assert "all sound" in run("verify", *data)
    assert run("rollback", *data) == f"rolled back from {two} to {one}\n"


def test_a_full_disk_in_the_middle_of_compressing_is_told_too(call, run, publish, small_disk, tmp_path):
    data = ("--data", str(small_disk / "data"))
    publish({"b": b"1"}, "--prod", *data)
    build = tmp_path / "text"
    build.mkdir()
    (build / "a.txt").write_bytes(os.urandom(1_700_000).hex().encode())
    refuse(call("publish", "text", "--prod", *data), "the disk is full", str(small_disk))
    assert "all sound" in run("verify", *data)
    assert "1 release stays" in run("gc", *data)
    assert len(list((small_disk / "data" / "blobs" / "tmp").iterdir())) == 0
