"""A private PostgreSQL server for tests: in a temporary directory, on a free loopback port, ended with the session."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from patience import LONG
from ports import quiet_port

USER = "ada"
PASSWORD = "s3cr€t @/:?#%&"  # every character that means something in an address
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: place.parent.name.zfill(4))
"""Where Debian puts the programs, which are not in PATH there."""

_LOOSE = {"fsync": "off", "full_page_writes": "off", "unix_socket_directories": "", "listen_addresses": "127.0.0.1"}


class Absent(Exception):
    """There is no PostgreSQL here, or nobody to run it as."""


class Server:
    """A server that can be stopped and started again, as a user would find it."""

    def __init__(self, directory: Path):
        self._programs, self._owner = _programs(), _owner()
        self._data, self._log = directory / "data", directory / "log"
        if self._owner:
            shutil.chown(directory, self._owner)
        password = directory / "password"
        password.write_text(PASSWORD + "\n", encoding="utf-8")
        password.chmod(0o644)
        self._run("initdb", f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip
        self.port = quiet_port()
        self.start()

    def start(self) -> None:
        settings = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in _LOOSE.items())
        self._run("pg_ctl", "start", "--wait", f"--log={self._log}", f"--options=-p {self.port} {settings}")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def empty(self) -> str:
        """Address of the server's database, from which all runs have been deleted."""
        import psycopg

        with psycopg.connect(self._address("postgresql")) as connection:
            connection.execute("DROP SCHEMA IF EXISTS cockpit CASCADE")
        return self._address("postgresql+psycopg")

    def _address(self, scheme: str) -> str:
        return f"{scheme}://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *options: str) -> None:
        command = [self._programs / program, f"--pgdata={self._data}", *options]
        as_whom = {"user": self._owner, "group": pwd.getpwnam(self._owner).pw_gid, "extra_groups": []}
        # To a file: the server inherits what it is started with, and a pipe would stay open as long as it lives.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False, timeout=2 * LONG, cwd="/",
                env={**os.environ, "LC_ALL": "C", "PGCTLTIMEOUT": f"{LONG:.0f}"}, **(as_whom if self._owner else {}),
            )  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, f"{program} ended with {done.returncode}: {said.read()}"


@contextmanager
def private_server() -> Iterator[Server]:
    """A new server, which is gone afterwards.

    Raises:
        Absent: Where there is none to be started.
    """
    _programs(), _owner()
    with tempfile.TemporaryDirectory(prefix="cockpit-postgres-") as directory:
        server = Server(Path(directory))
        try:
            yield server
        finally:
            server.stop()


def _programs() -> Path:
    found = shutil.which("initdb")
    for place in ([Path(found).resolve().parent] if found else []) + list(reversed(INSTALLED)):
        if (place / "initdb").exists() and (place / "pg_ctl").exists():
            return place
    raise Absent("PostgreSQL is not installed: no initdb and pg_ctl in PATH or /usr/lib/postgresql")


def _owner() -> str:
    """As whom to run it, which must not be root; empty for the user who runs the tests."""
    if os.geteuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise Absent("PostgreSQL does not run as root, and there is neither a user 'postgres' nor 'nobody'")
