"""The master: has workers serve, starts one anew that died or is stuck, replaces them all, and stops them.

Laws:
- The master has no event loop, no application and no thread: what it forks holds no lock that nobody will ever release.
- Where the channel between a worker and its master ends, the worker ends, too.
- Signals come to the master alone, and go on as SIGTERM. Who does not end in time is killed; nothing outlives the master.
- A reload never takes away what serves: settings are checked before they are used, and the workers that there are drain only
  when all of the new ones are ready. If one of those is not, they go, and the old ones stay.
- The master waits for nobody: it turns once a second at the least, and says so to the service manager.

Listening sockets are inherited: with SO_REUSEPORT, a worker that ends resets what waits in its own queue (24 of 40 connections,
measured 2026-11-22).
"""

from __future__ import annotations

import faulthandler
import gc
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from .check import Check
from .control import RELOAD, Control, Outcome, answer, read_command
from .crew import TURN_S, Crew, postpone
from .handover import Handover, Listener, hand_over
from .notices import Notifier
from .words import say
from .worker import TOLD, Serve, Worker, describe_end, name_end

STEADY_S = 10.0
"""A worker that lived so long did not die of how it was started: its successor comes at once."""

EX_FAILURE = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a master is to do: have ``count`` processes ``serve``, and ``jobs`` others ``work``.

    ``load_later`` is called once when somebody serves: all who are forked after that have what it loads, and no answer waited
    for it. They get ``grace_s`` to end. One of which nothing is heard for ``stuck_s`` is replaced; 0 for never. ``check`` is
    the command that looks at the settings before a reload. ``control``: where commands come in. ``memory``: the descriptor of
    what all workers share. ``on_replace`` hears that one is replaced that ``ended``, was ``killed``, or ``stuck``;
    ``on_reload``, whether the newest settings are in force.
    """

    serve: Serve | None
    count: int = 1
    work: Serve | None = None
    jobs: int = 0
    load_later: Callable[[], object] = lambda: None
    grace_s: float = 30.0
    stuck_s: float = 0.0
    check: Sequence[str] = ()
    listeners: Sequence[Listener] = ()
    control: Control | None = None
    notifier: Notifier = field(default_factory=lambda: Notifier({}))
    memory: int = -1
    on_replace: Callable[[str], None] = lambda _: None
    on_reload: Callable[[bool], None] = lambda _: None

    def make_worker(self, serves: bool) -> Worker:
        """Return a free place."""
        return Worker(self.serve if serves else self.work, serves)


def run_master(plan: Plan, handover: Handover | None = None) -> int:
    """Run workers until SIGTERM or SIGINT; return the exit code. SIGHUP has all of them replaced, and so has ``control``.

    A second signal kills them at once. If none can start that serves, all ends, with the exit code of the last. After a
    ``handover`` the workers that there are serve until the new ones are ready. To be called in the main thread of a process
    that has no other one.
    """
    gc.collect()
    gc.freeze()  # a collection would write into every page that the workers share
    return _Master(plan, handover).run()


def keep_serving(handover: Handover, problem: str, check: Sequence[str]) -> int:
    """Run the workers that there are, as a master that cannot start others; ``problem`` says why, until the next reload."""
    notifier = Notifier(os.environ)
    plan = Plan(
        serve=None,
        count=0,
        check=check,
        listeners=handover.listeners,
        control=handover.control,
        notifier=notifier,
        memory=handover.memory,
    )
    return _Master(plan, handover, problem).run()


class _Master:
    def __init__(self, plan: Plan, handover: Handover | None = None, problem: str = "") -> None:
        self._plan = plan
        self._notifier = plan.notifier
        places = [True] * plan.count + [False] * plan.jobs
        self._crew = Crew([plan.make_worker(serves) for serves in places], plan.grace_s, plan.stuck_s)
        self._client: socket.socket | None = None
        self._listeners = list(plan.listeners)
        self._before = list(plan.listeners)  # where the old workers listen
        if handover is not None:
            self._crew.take_over(handover, plan.make_worker)
            self._client = handover.client
            self._before = handover.listeners
        self._is_told_ready = handover is not None
        self._is_loaded = False
        self._problem = problem
        self._check: Check | None = None
        self._reloads_again = False
        self._signals: list[int] = []
        self._code: int | None = None  # known once we are stopping
        self._is_interrupted = False
        self._has_terminal = os.isatty(sys.__stderr__.fileno()) if sys.__stderr__ else False
        self._bell, self._ring = socket.socketpair()  # signals interrupt a wait by ringing

    def run(self) -> int:
        """Run until all workers have ended."""
        faulthandler.enable()  # who waits for us in vain may end us by SIGABRT
        self._listen()
        try:
            if self._problem:
                self._fall_back(self._problem)
            while self._code is None or any(worker.pid for worker in self._crew):
                self._turn()
        finally:
            self._crew.kill()
            if self._plan.control is not None:
                self._plan.control.close()
        if self._is_interrupted:
            say("stopped")
        return self._code

    def _turn(self) -> None:
        now_s = time.monotonic()
        if self._code is None:
            self._load_later()
            self._crew.start_due(now_s, self._sockets())
        self._crew.look_after(now_s)
        self._notifier.beat(now_s)
        self._wait(now_s)
        for number in self._take_signals():
            self._on_signal(number)
        for worker, pid, code in self._crew.reap():
            self._on_end(worker, pid, code)
        if self._code is None:
            self._tell_ready()
            self._go_on_reloading()

    def _load_later(self) -> None:
        if self._crew.is_served and not self._is_loaded:
            self._is_loaded = True
            try:
                self._plan.load_later()
            except Exception as error:  # noqa: BLE001 - whoever needs it will tell; who serves goes on
                say(f"cannot load what later requests need: {error}")
            gc.freeze()

    def _sockets(self) -> list[socket.socket]:
        """Return what is open here and no worker's."""
        control = self._plan.control
        former = [one.socket for one in self._before if one not in self._listeners]
        known = [self._bell, self._ring, control and control.socket, self._client, *former]
        return [one for one in known if one is not None]

    def _wait(self, now_s: float) -> None:
        """Wait until something happens or is due."""
        due = [worker.due_s for worker in self._crew.startable()] if self._code is None else []
        due += [worker.deadline_s for worker in self._crew]
        due.append(now_s + min(TURN_S, self._notifier.beat_s or TURN_S))
        for key, _ in self._crew.selector.select(max(0.0, min(due) - now_s)):
            key.data()

    def _tell_ready(self) -> None:
        """Say at the first start that somebody serves."""
        if not self._is_told_ready and self._crew.is_served:
            self._is_told_ready = True
            self._notifier.ready(self._crew.describe())

    # Deaths

    def _on_end(self, worker: Worker, pid: int, code: int) -> None:
        """Decide who comes after a worker that ended."""
        if self._code is not None or worker not in self._crew.kept:
            return
        end = describe_end(code)
        if self._crew.old and worker.serves and not worker.is_ready:
            self._fall_back(f"worker {pid} {end} before it could serve")
        elif worker.serves and not worker.is_ready and not self._crew.is_served:
            say(f"error: worker {pid} {end} before it could serve, and no other one does; nothing is served")
            self._stop(code if code > 0 else EX_FAILURE)
        elif worker.run is None:
            say(f"{worker.title} {pid} {end}; no other one starts before a reload succeeds")
            if not self._crew.is_served:
                say("error: nothing is served")
                self._stop(EX_FAILURE)
        else:
            self._plan.on_replace(name_end(code))
            self._replace(worker, f"{worker.title} {pid} {end}")

    def _replace(self, worker: Worker, told: str) -> None:
        now_s = time.monotonic()
        worker.short_lives = 0 if now_s - worker.started_s >= STEADY_S else worker.short_lives + 1
        pause_s = postpone(worker, now_s) if worker.short_lives else 0.0
        worker.due_s = now_s + pause_s
        say(f"{told}; another one starts" + (f" in {pause_s:g} s" if pause_s else ""))

    # Reload

    def _ask_to_reload(self, client: socket.socket | None = None) -> None:
        """Begin to look at the settings, unless that is going on already: then a signal is remembered, and a client told."""
        if self._check is not None or self._crew.old:
            if client is None:
                self._reloads_again = True
            else:
                answer(client, Outcome(ok=False, message="another reload is under way; try again when it is done"))
            return
        self._client = client
        self._reloads_again = False
        if not self._plan.check:
            self._become_next()
            return
        try:
            self._check = Check(self._plan.check, time.monotonic())
        except OSError as error:
            self._end_reload(f"the settings cannot be checked: {(error.strerror or str(error)).lower()}")

    def _go_on_reloading(self) -> None:
        if self._check is not None:
            problem = self._check.find_problem(time.monotonic())
            if problem is None:
                return
            self._check = None
            if problem:
                self._end_reload(problem)
            else:
                self._become_next()
        elif self._crew.old and self._crew.is_complete:
            self._succeed()
        elif self._reloads_again and not self._crew.old:
            self._ask_to_reload()

    def _become_next(self) -> None:
        """Run the program anew, in place. It goes on with ``_crew.old``."""
        self._notifier.reloading()
        try:
            hand_over(self._listeners, self._crew.kept, self._crew.leaving, self._plan.control, self._client, self._plan.memory)
        except OSError as error:
            self._end_reload(f"{sys.executable} cannot be run: {(error.strerror or str(error)).lower()}")

    def _succeed(self) -> None:
        """Let the old workers go, and the addresses that only they have."""
        self._crew.replace_old()
        for one in self._before:
            if one not in self._listeners:
                one.close()
        self._before = self._listeners
        self._end_reload("")

    def _fall_back(self, problem: str) -> None:
        """Go on with the old workers, where they listen. What new ones do belongs to other addresses, if there are such."""
        self._crew.return_to_old()
        fresh = [one for one in self._listeners if one not in self._before]
        for one in fresh:
            one.close()
        for worker in self._crew.kept if fresh else ():
            worker.run = None
        self._listeners = self._before
        self._end_reload(problem)

    def _end_reload(self, problem: str) -> None:
        """Say what came of it, to all who want to know."""
        told = f"not reloaded, what ran before goes on: {problem}" if problem else f"reloaded: {self._crew.describe()}"
        say(f"error: {told}" if problem else told)
        self._notifier.ready(told)
        self._plan.on_reload(not problem)
        if self._client is not None:
            answer(self._client, Outcome(ok=not problem, message=problem or told))
            self._client = None

    def _on_client(self) -> None:
        assert self._plan.control is not None  # noqa: S101 - or nobody could come
        try:
            client, _ = self._plan.control.socket.accept()
        except OSError:  # who came is gone again
            return
        command = read_command(client)
        if self._code is not None:
            answer(client, Outcome(ok=False, message="the server is stopping"))
        elif command == RELOAD:
            self._ask_to_reload(client)
        else:
            answer(client, Outcome(ok=False, message="this version knows no such command"))

    # Signals, and the end

    def _listen(self) -> None:
        register = self._crew.selector.register
        for one in (self._bell, self._ring):
            one.settimeout(0)
        register(self._bell, selectors.EVENT_READ, lambda: self._bell.recv(1024))
        if self._plan.control is not None:
            self._plan.control.socket.settimeout(0)
            register(self._plan.control.socket, selectors.EVENT_READ, self._on_client)
        for worker in self._crew:
            self._crew.hear(worker)
        for number in TOLD:
            signal.signal(number, self._note_signal)
        signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)  # whoever was the master before us has blocked them

    def _note_signal(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _take_signals(self) -> list[int]:
        taken = self._signals[:]
        del self._signals[: len(taken)]
        return [number for number in taken if number != signal.SIGCHLD]

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGUSR1:
            for worker in self._crew:
                worker.send(signal.SIGUSR1)
        elif number == signal.SIGHUP and not self._is_orphaned():
            if self._code is None:
                self._ask_to_reload()
        elif self._code is None:
            self._is_interrupted = number == signal.SIGINT
            self._stop(0)
        else:  # once more: whoever asks has no patience
            self._crew.kill()

    def _is_orphaned(self) -> bool:
        """Tell whether a SIGHUP says what it said at first: that the terminal is gone."""
        return self._has_terminal and not os.isatty(sys.__stderr__.fileno() if sys.__stderr__ else -1)

    def _stop(self, code: int) -> None:
        self._code = code
        self._notifier.stopping()
        if self._check is not None:
            self._check.close()
        if self._client is not None:
            answer(self._client, Outcome(ok=False, message="the server is stopping"))
        self._check = self._client = None
        self._crew.stop()
