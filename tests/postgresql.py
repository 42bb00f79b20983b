"""A real PostgreSQL for tests: a server of its own in a temporary folder, reached by a socket there alone."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest

LIMIT_S = 60
INSTALLED = "/usr/lib/postgresql"
USER = "postgres"


class PostgresServer:
    """A server; ``create_database()`` returns the URL of an empty database."""

    def __init__(self, programs: Path, folder: str) -> None:
        self._programs = programs
        self._folder = folder
        self._user = USER if os.geteuid() == 0 else getpass.getuser()  # it refuses to run as root
        self._numbers = count()

    def create(self) -> None:
        """Make the cluster, as the user that may run it."""
        owner = pwd.getpwnam(self._user)
        os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c max_connections=200"
        self._run("pg_ctl", "-l", f"{self._folder}/log", "-w", "-t", str(LIMIT_S), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """End it: ``immediate`` is as if the machine had crashed."""
        self._run("pg_ctl", "-m", mode, "-w", "-t", str(LIMIT_S), "stop")

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self._run("psql", "-h", self._folder, "-U", USER, "-qc", f"CREATE DATABASE {name} TEMPLATE template0", data=False)
        return f"postgresql://{USER}@/{name}?host={self._folder}"

    def _run(self, program: str, *arguments: str, data: bool = True) -> None:
        place = ["-D", f"{self._folder}/data"] if data else []
        command = [str(self._programs / program), *place, *arguments]
        user = self._user if os.geteuid() == 0 else None
        with tempfile.TemporaryFile() as output:  # a pipe would be held open by the server
            done = subprocess.run(
                command,
                user=user,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=LIMIT_S,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, f"{' '.join(command)}:\n{output.read().decode(errors='replace')}"


def find_programs() -> Path | None:
    """Return where the programs of the newest installed PostgreSQL are."""
    found = sorted(Path(INSTALLED).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).parent if elsewhere else None


@pytest.fixture(scope="session")
def postgres(missing: Callable[[str], NoReturn]) -> Iterator[PostgresServer]:
    """A running PostgreSQL for all tests, which each have a database of their own in it."""
    programs = find_programs()
    if programs is None:
        missing("PostgreSQL (Debian package postgresql)")
    folder = tempfile.mkdtemp(prefix="assetserver-pg-", dir="/tmp")  # a socket's path is short, and the user may enter it
    server = PostgresServer(programs, folder)
    try:
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
