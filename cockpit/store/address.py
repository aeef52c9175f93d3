"""Where runs are kept: a directory, or a database on a server, whose password nobody gets to see."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import sqlalchemy as sa

DRIVER = "postgresql+psycopg"

_FORM = f"{DRIVER}://user:password@host:port/database/name"
_SCHEMES = ("postgresql", "postgres", DRIVER)
_URL = re.compile(r"[A-Za-z][\w+.-]*://")
_FLATTENED = re.compile(r"postgres\w*(\+\w+)?:/")  # what a Path makes of an address
_PASSWORD = re.compile(r"(postgres\w*(?:\+\w+)?://?[^\s:/@]*:)\S*@")
_PASSWORD_SETTING = re.compile(r"([?&](?:ssl)?password=)[^&\s]*")


@dataclass(frozen=True, repr=False)
class Address:
    """A database on a server, and a run in it. As text it lacks the password.

    Args:
        database: Server, user, password and database, as SQLAlchemy takes them.
        name: The run's, which may hold slashes; empty for all runs of the database.
    """

    database: sa.URL
    name: str = ""

    def with_name(self, name: str) -> Address:
        """Another run of the same database."""
        return replace(self, name=name)

    def __str__(self) -> str:
        server = self.database._replace(database=None, query=sa.util.EMPTY_DICT).render_as_string(hide_password=True)
        return "/".join(part for part in (server, self.database.database, self.name) if part)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


Place: TypeAlias = "Path | Address"
"""A run's directory, or one of many in a database; without a name, all runs that are there."""


def place_of(where: str | Path | Address) -> Place:
    """A place as it was written: text with a scheme is an address, anything else a path.

    The first part of an address's path is the database, all that follows the name of the run, slashes included. What
    means something else in an address (``?``, ``#``, ``%``) is written as in any other: ``%3F``, ``%23``, ``%25``.

    Raises:
        ValueError: For an address that cannot be understood, or of a database that is not known.
        ImportError: Without the database's driver.
    """
    if isinstance(where, Address):
        return where
    if not isinstance(where, str) or not _URL.match(where):
        if _FLATTENED.match(str(where)):
            raise ValueError(f"hand an address over as text, not as a path, which drops a slash of it: {_FORM!r}")
        return Path(where)
    return _address(where)


def _address(text: str) -> Address:
    scheme = text.partition("://")[0]
    if scheme not in _SCHEMES:
        raise ValueError(f"runs are kept in directories, or as {_FORM!r}; {scheme!r} is not known")
    url: sa.URL | None
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):  # whose words may repeat a part of the password
        url = None
    if url is None or not (url.database or "").strip("/") or "@" in (url.host or ""):
        raise ValueError(  # without what was written: where the password ends is not known
            f"an address of runs looks like {_FORM!r}; characters of the password that mean something in an address "
            "are written as %40 for '@', %2F for '/', and so on"
        )
    database, _, name = str(url.database).strip("/").partition("/")
    if name and any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"a run's name has no empty parts, and none that are '.' or '..', got {name!r}")
    _require_driver()
    return Address(url.set(drivername=DRIVER, database=database), name)


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        words = f"runs in PostgreSQL need its driver: `pip install 'cockpit-debugger[postgres]'` ({error})"
        raise ImportError(words) from error


def without_passwords(text: str) -> str:
    """``text`` with ``***`` for every password in an address of PostgreSQL."""
    if "postgres" not in text:
        return text
    return _PASSWORD_SETTING.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))
