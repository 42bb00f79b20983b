"""The studio: a picture goes in, a folder of variants comes out, or a reason why not.

Reads the header here, decodes in a child, and believes nothing that the child says: every file that it names is looked at
again.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

import msgspec

from assetserver.errors import ChildFailedError, PictureRefusedError

from .admission import Limits, PixelGate, admit, estimate_bytes
from .children import Children, Descriptors
from .confinement import Confines
from .forkserver import Ending
from .headers import DamagedError, Facts, UnknownFormatError, read_facts
from .plan import SUFFIXES, Answer, Failure, Order, Picture, Plan, Refusal, Variant

DEVELOP = "assetserver.images.darkroom:develop"
_DECODER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class Developed(NamedTuple):
    """What was made, and what it took: seconds of processor time, and the most memory that the child held, in bytes."""

    picture: Picture
    cpu_s: float
    peak_bytes: int


class Studio:
    """Makes pictures small in child processes, as many at once as ``megapixels`` in flight allow.

    ``work`` is what children do. All methods block, and may be called from any thread of the process that made it. A call may
    repeat: the same source and plan give the same bytes.
    """

    def __init__(self, limits: Limits | None = None, *, pixels_in_flight: int = 100_000_000, work: str = DEVELOP) -> None:
        self.limits = limits or Limits()
        self.children = Children(work)
        self.on_made: Callable[[Variant], None] = lambda _: None
        """Is told of each picture that was made, on the thread that made it."""
        self._gate = PixelGate(pixels_in_flight)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs, and the process that starts it."""
        self.children.close()

    def look(self, source: str) -> Facts:
        """Return what the header of the file ``source`` says. Raises ``PictureRefusedError`` as ``make`` does."""
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return admit(descriptor, os.fstat(descriptor).st_size, self.limits)
        finally:
            os.close(descriptor)

    def make(self, source: str, plan: Plan, folder: str, *, is_wanted: Callable[[], bool] = lambda: True) -> Developed:
        """Make what ``plan`` says of the file ``source``, as files in the empty ``folder``; whatever fails leaves it empty.

        The files are not synced. ``is_wanted`` is asked four times a second; once it says no, the work ends. Raises
        ``PictureRefusedError`` (for good), ``ChildFailedError`` (perhaps not the next time), and ``ValueError`` where the
        folder holds anything.
        """
        if os.listdir(folder):
            raise ValueError(f"{folder} is not empty")
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            facts = admit(descriptor, os.fstat(descriptor).st_size, self.limits)
            with self._gate.holding(facts.pixels * facts.frames, is_wanted):
                return self._develop(facts, plan, descriptor, folder, is_wanted)
        except BaseException:
            _empty(folder)
            raise
        finally:
            os.close(descriptor)

    def _develop(self, facts: Facts, plan: Plan, source: int, folder: str, is_wanted: Callable[[], bool]) -> Developed:
        order = Order(plan, facts.format, facts.pixels, facts.frames, self.limits.animation_pixels)
        target = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            ending, told = self.children.run(
                msgspec.json.encode(order), Descriptors(source, target), self._choose_confines(facts), is_wanted
            )
            picture = _judge(ending, told, self.limits)
            _inspect(picture, target)
        finally:
            os.close(target)
        for variant in picture.variants:
            self.on_made(variant)
        return Developed(picture, ending.cpu_s, ending.peak_bytes)

    def _choose_confines(self, facts: Facts) -> Confines:
        limits = self.limits
        needed = min(estimate_bytes(facts), limits.large_memory_bytes)
        return Confines(
            memory_bytes=max(limits.memory_bytes, needed),
            cpu_s=limits.cpu_s,
            wall_s=limits.wall_s,
            file_bytes=limits.file_bytes,
            open_files=limits.open_files,
        )


def _judge(ending: Ending, told: bytes, limits: Limits) -> Picture:
    """Return what a child made; raise what its end or its answer means."""
    if os.WIFSIGNALED(ending.status):
        raise ChildFailedError(_explain_signal(ending, limits), os.WTERMSIG(ending.status))
    try:
        answer = _DECODER.decode(told)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        code = os.waitstatus_to_exitcode(ending.status)
        raise ChildFailedError(f"the process that worked on the picture ended with {code} and no answer") from error
    if isinstance(answer, Refusal):
        raise PictureRefusedError(answer.reason)
    if isinstance(answer, Failure):
        raise ChildFailedError(answer.reason)
    return answer


def _explain_signal(ending: Ending, limits: Limits) -> str:
    number = os.WTERMSIG(ending.status)
    if number == signal.SIGXCPU:
        return f"the picture took more than {limits.cpu_s} s of processor time"
    if number == signal.SIGALRM or ending.was_late:
        return f"the picture took more than {limits.wall_s:g} s"
    with suppress(ValueError):
        return f"the process that worked on the picture was ended by {signal.Signals(number).name}"
    return f"the process that worked on the picture was ended by signal {number}"


def _inspect(picture: Picture, folder: int) -> None:
    """See that each file is there, and is the picture that it is said to be. Raises ``ChildFailedError``."""
    names = [variant.file for variant in picture.variants]
    if sorted(names) != sorted(os.listdir(folder)):
        raise ChildFailedError("the process that worked on the picture left other files than it told")
    for variant in picture.variants:
        if (found := _look_at(variant, folder)) != (variant.format, variant.width, variant.height, variant.size):
            raise ChildFailedError(f"the process that worked on the picture told {variant.file} other than it is: {found}")


def _look_at(variant: Variant, folder: int) -> tuple[str, int, int, int] | None:
    try:
        descriptor = os.open(variant.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not variant.file.endswith("." + SUFFIXES[variant.format]):
            return None
        facts = read_facts(descriptor)
    except (DamagedError, UnknownFormatError):
        return None
    finally:
        os.close(descriptor)
    return facts.format, facts.width, facts.height, status.st_size


def _empty(folder: str) -> None:
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
