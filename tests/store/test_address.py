"""Where runs are kept, as it is written, and that a password written there is never shown."""

import sys
from pathlib import Path

import pytest

from cockpit.store.address import Address, place_of, without_passwords

SECRET = "p%40ss%2F%3Aword"
WHERE = f"postgresql+psycopg://ada:{SECRET}@db.example:5433/training"


def address(text: str) -> Address:
    found = place_of(text)
    assert isinstance(found, Address)
    return found


def test_the_first_part_of_the_path_is_the_database_and_the_rest_the_runs_name() -> None:
    found = address(f"{WHERE}/vision/mnist-sgd")
    assert (found.database.database, found.name) == ("training", "vision/mnist-sgd")
    assert (found.database.host, found.database.port, found.database.username) == ("db.example", 5433, "ada")
    assert found.database.password == "p@ss/:word"
    assert address(WHERE).name == address(f"{WHERE}/").name == ""


def test_what_means_something_in_an_address_is_escaped_in_a_name() -> None:
    found = address(f"{WHERE}/50%25%3F%23 \N{ROCKET} it's?sslmode=disable")
    assert found.name == "50%?# \N{ROCKET} it's"
    assert found.database.query == {"sslmode": "disable"}


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_usual_scheme_means_the_same_driver(scheme: str) -> None:
    assert address(f"{scheme}://db.example/training/run").database.drivername == "postgresql+psycopg"


def test_a_server_may_be_named_by_its_socket() -> None:
    found = address("postgresql:///training/run?host=/var/run/postgresql")
    assert (found.name, str(found)) == ("run", "postgresql+psycopg:///training/run")


@pytest.mark.parametrize("path", ["runs/mnist", "/a/b", "C:\\runs", "run: 1", "", "a//b", "50%"])
def test_anything_else_is_a_path(path: str) -> None:
    assert place_of(path) == place_of(Path(path)) == Path(path)


def test_an_address_says_all_but_the_password() -> None:
    found = address(f"{WHERE}/a/b?password=other")
    assert str(found) == "postgresql+psycopg://ada:***@db.example:5433/training/a/b"
    assert repr(found) == f"Address({str(found)!r})"
    assert str(found.with_name("c")) == "postgresql+psycopg://ada:***@db.example:5433/training/c"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (f"mysql://ada:{SECRET}@db/training/run", "runs are kept in directories, or as .*'mysql' is not known"),
        (f"postgresql://ada:{SECRET}@db.example", "an address of runs looks like"),
        (f"postgresql://ada:{SECRET}@db.example:port/training/run", "an address of runs looks like"),
        ("postgresql://ada:half@other half@db.example/training/run", "characters of the password"),
        (f"{WHERE}/a//b", "no empty parts"),
        (f"{WHERE}/../b", "none that are"),
    ],
)
def test_what_cannot_be_understood_is_refused_without_the_password(wrong: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        place_of(wrong)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    for secret in (SECRET, "p@ss/:word", "half"):
        assert secret not in str(refused.value)


def test_an_address_that_a_path_has_flattened_is_refused() -> None:
    with pytest.raises(ValueError, match="hand an address over as text, not as a path") as refused:
        place_of(Path(WHERE))
    assert SECRET not in str(refused.value)


def test_without_the_driver_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"pip install 'cockpit-debugger\[postgres\]'"):
        place_of(WHERE)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("--run postgresql://ada:secret@db/x --lr 0.1", "--run postgresql://ada:***@db/x --lr 0.1"),
        ("postgresql+psycopg://ada:se:cr/et@x@db/x", "postgresql+psycopg://ada:***@db/x"),
        ("postgresql+psycopg:/ada:secret@db/x", "postgresql+psycopg:/ada:***@db/x"),
        ("postgres://db/x?password=secret&sslmode=on", "postgres://db/x?password=***&sslmode=on"),
        ("postgres://ada@db:5432/x", "postgres://ada@db:5432/x"),
        ("http://ada:visible@db/x", "http://ada:visible@db/x"),
    ],
)
def test_passwords_of_addresses_within_a_text_are_left_out(text: str, safe: str) -> None:
    assert without_passwords(text) == safe
