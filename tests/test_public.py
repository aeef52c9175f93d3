"""The names that are public: few, importable, documented, and the same everywhere."""

import ast
import importlib
import inspect
import re
from importlib import metadata
from pathlib import Path

import pytest

import cockpit
import cockpit.instruments
from cockpit.instrument import registered

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text()


def test_the_api_page_has_exactly_the_public_names():
    headings = " ".join(line for line in PAGE.splitlines() if line.startswith("## "))
    in_headings = {name.split("(")[0] for name in re.findall(r"`([^`]+)`", headings)}
    assert in_headings <= set(cockpit.__all__)
    assert {name for name in cockpit.__all__ if not re.search(rf"`{name}\b", PAGE)} == set()


def test_the_api_page_has_every_argument_of_the_cockpit():
    arguments = set(inspect.signature(cockpit.Cockpit).parameters)
    (heading,) = re.findall(r"^## `Cockpit\((.*)\)`$", PAGE, flags=re.M)
    assert set(re.findall(r"(\w+)(?==|,|$)", re.sub(r'=("[^"]*"|[^,]*)', "=", heading))) == arguments
    table = PAGE.split("|---|---|", 1)[1].split("\n\n", 1)[0]
    assert {name for name in arguments if f"`{name}`" not in table} == set()


@pytest.mark.parametrize("name", cockpit.__all__)
def test_a_public_name_can_be_imported_and_is_documented_where_it_stands(name):
    found = getattr(cockpit, name)
    assert inspect.getdoc(found)
    assert name in dir(cockpit)


def test_type_checkers_see_the_names_that_are_imported_lazily():
    tree = ast.parse(Path(cockpit.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {(node.module, alias.asname) for node in block.body for alias in node.names}
    assert seen == {(home, name) for name, home in cockpit._HOMES.items()}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'cockpit' has no attribute 'Cokpit'"):
        cockpit.Cokpit  # noqa: B018
    with pytest.raises(AttributeError, match="there is no instrument class 'NormTst'; there are: Activation, Alpha, "):
        cockpit.instruments.NormTst  # noqa: B018


def test_every_instrument_can_be_imported_by_its_class_name():
    for name, cls in registered().items():
        if cls.__module__.startswith("cockpit."):
            assert getattr(cockpit.instruments, cls.__name__) is cls
            assert (
                re.sub(r"(?<!^)(?<![A-Z0-9])(?=[A-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower() == name
            )
            assert cls.__module__ == f"cockpit.instruments._{name}"


def test_the_version_is_the_distributions():
    assert metadata.version("cockpit-debugger") == cockpit.__version__


@pytest.mark.parametrize(
    "module", ["cockpit.testing", "cockpit.session", "cockpit.tracking.windows", "cockpit.tracking.notices"]
)
def test_everything_public_in_a_module_says_what_it_is(module):
    for name, found in vars(importlib.import_module(module)).items():
        if not name.startswith("_") and getattr(found, "__module__", None) == module:
            assert inspect.getdoc(found), name
