"""Compressed forms: only those that decode to their file are used, and each is made once."""

import gzip
import logging
import os
import threading
from collections.abc import Callable
from hashlib import sha256, shake_256
from pathlib import Path

import brotli
import pytest

from assetserver.delivery import encodings as module
from assetserver.delivery.encodings import Encodings
from assetserver.semantics.mediatypes import media_type_of
from assetserver.semantics.representation import SUFFIXES, ContentCoding
from assetserver.storage.codecs import CompressionParameter as Zstd
from assetserver.storage.codecs import ZstdCompressor, compress, decode
from assetserver.storage.signatures import sign


def noise(seed: int, size: int) -> bytes:
    """Return bytes that no coding makes smaller, the same for the same seed."""
    return shake_256(bytes([seed])).digest(size)


CODINGS = tuple(SUFFIXES)
TEXT = b"".join(b"line %d of a stylesheet\n" % number for number in range(2000))
DIGEST = sha256(TEXT).digest()
CSS = "text/css; charset=utf-8"


def encode(coding: ContentCoding, content: bytes) -> bytes:
    return b"".join(compress(coding, iter([content]), len(content)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.css"
    found.write_bytes(TEXT)
    return found


@pytest.fixture
def forms(tmp_path: Path) -> Path:
    return tmp_path / "forms"


def make(encodings: Encodings, path: Path, *codings: ContentCoding) -> None:
    content = path.read_bytes()
    encodings.make(str(path), sign(path.stat()), sha256(content).digest(), codings or CODINGS)


@pytest.mark.parametrize("coding", CODINGS)
class TestSidecars:
    @pytest.fixture
    def sidecar(self, path: Path, coding: ContentCoding) -> Path:
        return path.with_name("a.css" + SUFFIXES[coding])

    @pytest.fixture
    def find(self, sidecar: Path, coding: ContentCoding, forms: Path) -> Callable[[], object]:
        return lambda: Encodings(directory=str(forms)).find(coding, DIGEST, len(TEXT), str(sidecar))

    @pytest.mark.parametrize("age_s", [-(10**9), -1, 0, 10**6])
    def test_one_that_decodes_to_its_file_is_used_whatever_its_time_stamp(self, coding, sidecar, path, find, age_s):
        content = encode(coding, TEXT)
        sidecar.write_bytes(content)
        os.utime(sidecar, (path.stat().st_mtime + age_s,) * 2)
        found = find()
        assert (found.coding, found.path) == (coding, str(sidecar))
        assert (found.length, found.digest) == (len(content), sha256(content).digest())
        assert found.signature == sign(sidecar.stat())

    @pytest.mark.parametrize("fault", ["stale", "cut", "junk", "empty", "plain", "foreign", "longer", "shorter", "bomb"])
    def test_one_that_does_not_is_ignored(self, coding, sidecar, find, fault, caplog):
        good = encode(coding, TEXT)
        other = CODINGS[CODINGS.index(coding) - 1]
        sidecar.write_bytes(
            {
                "stale": encode(coding, TEXT.replace(b"line 7 ", b"line 8 ")),
                "cut": good[:-3],
                "junk": good + b"junk",
                "empty": b"",
                "plain": TEXT,
                "foreign": encode(other, TEXT),
                "longer": encode(coding, TEXT + b"x"),
                "shorter": encode(coding, TEXT[:-1]),
                "bomb": encode(coding, bytes(64 << 20)),
            }[fault]
        )
        assert find() is None
        assert "is not used" in caplog.text

    def test_one_that_is_a_folder_a_fifo_or_missing_is_ignored(self, coding, sidecar, find):
        assert find() is None
        sidecar.mkdir()
        assert find() is None
        sidecar.rmdir()
        os.mkfifo(sidecar)
        assert find() is None

    def test_one_of_an_empty_file_is_used_only_if_it_decodes_to_nothing(self, coding, sidecar, forms):
        encodings = Encodings(directory=str(forms))
        sidecar.write_bytes(encode(coding, b""))
        assert encodings.find(coding, sha256().digest(), 0, str(sidecar)) is not None
        sidecar.write_bytes(encode(coding, b"x"))
        assert encodings.find(coding, sha256().digest(), 0, str(sidecar)) is None

    def test_one_is_used_even_where_nothing_is_made_on_demand(self, coding, sidecar):
        sidecar.write_bytes(encode(coding, TEXT))
        assert Encodings(enabled=False).find(coding, DIGEST, len(TEXT), str(sidecar)) is not None

    def test_looking_leaves_no_descriptor(self, coding, sidecar, find, tmp_path, count_descriptors):
        for content in (encode(coding, TEXT), b"bad", encode(coding, bytes(1 << 20))):
            sidecar.write_bytes(content)
            find()
        assert count_descriptors(tmp_path) == 0


def test_a_bomb_is_read_no_further_than_its_file_is_long(path, monkeypatch):
    decoded = 0

    def count(coding, pieces):
        nonlocal decoded
        for piece in decode(coding, pieces):
            decoded += len(piece)
            yield piece

    monkeypatch.setattr(module, "decode", count)
    sidecar = path.with_name("a.css.gz")
    sidecar.write_bytes(gzip.compress(bytes(256 << 20), 1))
    assert Encodings(enabled=False).find(ContentCoding.GZIP, DIGEST, len(TEXT), str(sidecar)) is None
    assert decoded <= 2 << 20


@pytest.mark.parametrize(("window_log", "used"), [(23, True), (24, False), (27, False)])
def test_a_zstd_sidecar_that_browsers_would_refuse_is_ignored(path, window_log, used):
    compressor = ZstdCompressor(options={Zstd.window_log: window_log, Zstd.enable_long_distance_matching: 1})
    sidecar = path.with_name("a.css.zst")
    sidecar.write_bytes(compressor.compress(TEXT) + compressor.flush())
    found = Encodings(enabled=False).find(ContentCoding.ZSTD, DIGEST, len(TEXT), str(sidecar))
    assert (found is not None) == used


def test_a_gzip_sidecar_with_name_and_time_in_its_header_is_used(path, tmp_path):
    sidecar = path.with_name("a.css.gz")
    with gzip.GzipFile(sidecar, "wb", mtime=1700000000) as file:
        file.write(TEXT)
    assert Encodings(enabled=False).find(ContentCoding.GZIP, DIGEST, len(TEXT), str(sidecar)) is not None


@pytest.mark.parametrize(
    ("media_type", "length", "made"),
    [
        (CSS, 255, False),
        (CSS, 256, True),
        (CSS, 64 << 20, True),
        (CSS, (64 << 20) + 1, False),
        (CSS, 0, False),
        ("image/png", 5000, False),
        ("font/woff2", 5000, False),
        ("application/zip", 5000, False),
        ("application/octet-stream", 5000, False),
        (media_type_of("a.svg"), 5000, True),
        (media_type_of("a.wasm"), 5000, True),
        (media_type_of("a.json"), 5000, True),
    ],
)
def test_only_compressible_files_of_a_sensible_size_get_forms(media_type, length, made):
    assert Encodings().makes(media_type, length) == made
    assert not Encodings(enabled=False).makes(media_type, length)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_made_form_is_found_by_another_process_on_the_same_folder(path, forms, coding):
    first, second = Encodings(directory=str(forms)), Encodings(directory=str(forms))
    assert first.find(coding, DIGEST, len(TEXT), None) is None
    make(first, path, coding)
    found = second.find(coding, DIGEST, len(TEXT), None)
    assert found is not None
    assert b"".join(decode(coding, iter([Path(found.path).read_bytes()]))) == TEXT


def test_a_kept_form_serves_every_file_with_the_same_content(path, forms):
    encodings = Encodings(directory=str(forms))
    make(encodings, path)
    path.unlink()
    assert encodings.find(ContentCoding.BR, DIGEST, len(TEXT), None) is not None


@pytest.mark.parametrize("damage", [b"", b"junk", brotli.compress(b"something else")])
def test_a_damaged_kept_form_is_not_used_and_can_be_made_again(path, forms, damage):
    encodings = Encodings(directory=str(forms))
    make(encodings, path, ContentCoding.BR)
    (kept,) = forms.iterdir()
    kept.write_bytes(damage)
    assert encodings.find(ContentCoding.BR, DIGEST, len(TEXT), None) is None
    make(encodings, path, ContentCoding.BR)
    assert encodings.find(ContentCoding.BR, DIGEST, len(TEXT), None) is not None


def test_a_good_sidecar_goes_before_a_kept_form(path, forms):
    encodings = Encodings(directory=str(forms))
    make(encodings, path, ContentCoding.BR)
    sidecar = path.with_name("a.css.br")
    sidecar.write_bytes(brotli.compress(TEXT, quality=11))
    assert encodings.find(ContentCoding.BR, DIGEST, len(TEXT), str(sidecar)).path == str(sidecar)
    sidecar.write_bytes(b"bad")
    assert encodings.find(ContentCoding.BR, DIGEST, len(TEXT), str(sidecar)).path != str(sidecar)


def test_a_form_that_saves_less_than_five_percent_is_not_kept(tmp_path, forms):
    path = tmp_path / "noise.css"
    path.write_bytes(noise(1, 8000))
    make(Encodings(directory=str(forms)), path)
    assert list(forms.iterdir()) == []


def test_a_file_that_changed_meanwhile_is_not_compressed(path, forms):
    before = sign(path.stat())
    path.write_bytes(TEXT + b"more")
    Encodings(directory=str(forms)).make(str(path), before, DIGEST, CODINGS)
    assert list(forms.iterdir()) == []


@pytest.mark.parametrize("coding", CODINGS)
def test_a_file_that_grows_while_it_is_compressed_gets_no_form(path, forms, monkeypatch, caplog, coding):
    real = module.read_pieces

    def grow(descriptor):
        yield from real(descriptor)
        with path.open("ab") as file:
            file.write(b"more" * 1000)
        yield from real(descriptor)

    monkeypatch.setattr(module, "read_pieces", grow)
    make(Encodings(directory=str(forms)), path, coding)
    assert list(forms.iterdir()) == []


def test_a_file_that_is_rewritten_while_it_is_compressed_gets_no_form(path, forms, monkeypatch):
    real = module.read_pieces

    def rewrite(descriptor):
        yield from real(descriptor)
        path.write_bytes(TEXT[::-1])

    monkeypatch.setattr(module, "read_pieces", rewrite)
    make(Encodings(directory=str(forms)), path)
    assert list(forms.iterdir()) == []


@pytest.mark.parametrize("change", ["same length", "longer"])
def test_a_sidecar_that_changes_while_it_is_checked_is_not_used(path, monkeypatch, change):
    """Its own digest would be that of bytes which were never decoded."""
    sidecar = path.with_name("a.css.gz")
    good = gzip.compress(TEXT)
    sidecar.write_bytes(good)
    real, reads = module.read_pieces, []

    def change_after_decoding(descriptor):
        reads.append(descriptor)
        if len(reads) == 2:
            sidecar.write_bytes(b"x" * (len(good) + (change == "longer")))
            os.utime(sidecar, (1, 1))
        yield from real(descriptor)

    monkeypatch.setattr(module, "read_pieces", change_after_decoding)
    assert Encodings(enabled=False).find(ContentCoding.GZIP, DIGEST, len(TEXT), str(sidecar)) is None
    assert len(reads) == 2


def test_work_that_is_stopped_says_nothing_in_the_log(path, forms, monkeypatch, caplog):
    def stop(_):
        yield b""
        raise InterruptedError(4, "the server is stopping")

    sidecar = path.with_name("a.css.gz")
    sidecar.write_bytes(gzip.compress(TEXT))
    encodings = Encodings(directory=str(forms))
    monkeypatch.setattr(module, "read_pieces", stop)
    make(encodings, path)
    with pytest.raises(InterruptedError):
        encodings.find(ContentCoding.GZIP, DIGEST, len(TEXT), str(sidecar))
    assert not caplog.records
    assert list(forms.iterdir()) == []


def test_a_form_that_does_not_decode_to_its_digest_is_never_used(path, forms):
    """A file rewritten within one tick of the clock may be compressed under the name of what it was."""
    encodings = Encodings(directory=str(forms))
    encodings.make(str(path), sign(path.stat()), sha256(b"what it was").digest(), CODINGS)
    assert encodings.find(ContentCoding.BR, sha256(b"what it was").digest(), 11, None) is None


def test_a_missing_file_costs_a_warning_and_nothing_else(path, forms, caplog):
    before = sign(path.stat())
    path.unlink()
    Encodings(directory=str(forms)).make(str(path), before, DIGEST, CODINGS)
    assert "cannot keep the br form" in caplog.text
    assert list(forms.iterdir()) == []


def test_a_failure_while_compressing_leaves_no_litter(path, forms, monkeypatch, caplog):
    def fail(*_):
        yield b"some bytes"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "compress", fail)
    make(Encodings(directory=str(forms)), path)
    assert "No space left on device" in caplog.text
    assert list(forms.iterdir()) == []


def test_the_oldest_forms_leave_when_the_folder_is_over_its_limit(tmp_path, forms):
    encodings = Encodings(directory=str(forms), cache_limit_bytes=12_000)
    names = []
    for number in range(10):
        path = tmp_path / f"{number}.css"
        path.write_bytes(noise(number, 1500) + bytes(3000))
        make(encodings, path, ContentCoding.GZIP)
        kept = forms / (sha256(path.read_bytes()).hexdigest() + ".gz")
        assert kept.exists(), "what was just made stays"
        os.utime(kept, (number, number))
        names.append(kept)
    sizes = [name.stat().st_size for name in names if name.exists()]
    assert sum(sizes) <= 12_000
    alive = [name.exists() for name in names]
    assert alive == sorted(alive), "the oldest left first"
    assert 5 <= sum(alive) < 10


def test_what_was_there_before_counts_towards_the_limit(tmp_path, path, forms):
    make(Encodings(directory=str(forms)), path, ContentCoding.GZIP)
    (kept,) = forms.iterdir()
    os.utime(kept, (1, 1))
    other = tmp_path / "b.css"
    other.write_bytes(TEXT + b"/* b */")
    make(Encodings(directory=str(forms), cache_limit_bytes=kept.stat().st_size * 3 // 2), other, ContentCoding.GZIP)
    assert not kept.exists()
    assert len(list(forms.iterdir())) == 1


def test_files_of_others_in_the_cache_folder_are_never_removed(tmp_path, path, forms):
    forms.mkdir()
    for name in ("precious.txt", "backup.gz", "notes.tmp"):
        (forms / name).write_bytes(bytes(100_000))
        os.utime(forms / name, (1, 1))
    make(Encodings(directory=str(forms), cache_limit_bytes=20_000), path)
    assert {"precious.txt", "backup.gz", "notes.tmp"} <= {one.name for one in forms.iterdir()}
    assert len(list(forms.iterdir())) > 3, "and do not count towards the limit"


def test_what_a_killed_process_left_half_written_is_cleared_with_the_oldest(path, forms):
    encodings = Encodings(directory=str(forms), cache_limit_bytes=30_000)
    target = forms / (DIGEST.hex() + ".br")
    make(encodings, path, ContentCoding.BR)
    target.unlink()
    writing = module._Writing(str(target), lambda _: None)
    writing.__enter__()  # and never left
    writing.write(bytes(50_000))
    writing._file.close()
    (litter,) = forms.iterdir()
    os.utime(litter, (1, 1))
    make(Encodings(directory=str(forms), cache_limit_bytes=30_000), path, ContentCoding.BR)
    assert not litter.exists()
    assert target.exists()


@pytest.mark.parametrize("directory", ["occupied/forms", "/proc/self"], ids=["cannot be made", "cannot be written"])
def test_an_unusable_cache_folder_means_no_forms_and_one_warning(tmp_path, path, caplog, directory):
    (tmp_path / "occupied").write_text("a file")
    encodings = Encodings(directory=str(tmp_path / directory))
    for _ in range(3):
        make(encodings, path)
        assert encodings.find(ContentCoding.BR, DIGEST, len(TEXT), None) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "none are made" in caplog.text


def test_a_cache_folder_that_is_cleared_away_is_made_again(path, forms):
    """Systems empty their temporary folders; a server runs longer than that."""
    encodings = Encodings(directory=str(forms))
    make(encodings, path)
    for form in forms.iterdir():
        form.unlink()
    forms.rmdir()
    assert encodings.find(ContentCoding.BR, DIGEST, len(TEXT), None) is None
    make(encodings, path)
    assert encodings.find(ContentCoding.BR, DIGEST, len(TEXT), None) is not None


def test_a_wanted_cache_folder_is_made_for_this_user_only(path, forms):
    make(Encodings(directory=str(forms)), path)
    assert forms.stat().st_mode & 0o777 == 0o700
    assert all(form.stat().st_mode & 0o077 == 0 for form in forms.iterdir())


class TestPrivateFolder:
    @pytest.fixture(autouse=True)
    def _temporary(self, tmp_path, monkeypatch):
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def folders(self, tmp_path: Path) -> list[Path]:
        return sorted((tmp_path / "tmp").iterdir())

    def test_it_is_shared_by_the_processes_of_a_user_and_closed_to_others(self, tmp_path, path):
        make(Encodings(), path)
        (folder,) = self.folders(tmp_path)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert Encodings().find(ContentCoding.BR, DIGEST, len(TEXT), None) is not None
        assert self.folders(tmp_path) == [folder]

    @pytest.mark.parametrize("trap", ["open", "symlink", "file"])
    def test_a_name_that_someone_else_may_have_made_is_not_trusted(self, tmp_path, path, trap):
        name = tmp_path / "tmp" / f"assetserver-{os.geteuid()}"
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        match trap:
            case "open":
                name.mkdir()
                name.chmod(0o777)
            case "symlink":
                name.symlink_to(tmp_path / "elsewhere")
            case "file":
                name.write_text("trap")
        make(Encodings(), path)
        assert list((tmp_path / "elsewhere").iterdir()) == []
        assert not name.is_dir() or list(name.iterdir()) == []
        fresh = next(folder for folder in self.folders(tmp_path) if folder != name)
        assert len(list(fresh.iterdir())) == 3


def test_many_threads_making_the_same_form_leave_one_good_form(path, forms):
    encodings = Encodings(directory=str(forms))
    threads = [threading.Thread(target=make, args=(encodings, path, ContentCoding.GZIP)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [form.name for form in forms.iterdir()] == [DIGEST.hex() + ".gz"]
    assert encodings.find(ContentCoding.GZIP, DIGEST, len(TEXT), None) is not None
