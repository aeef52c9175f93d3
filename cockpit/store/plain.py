"""What is stored as text and as JSON, whatever is handed over: nothing in it that a database or a page cannot hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cockpit.store.address import without_passwords

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half of a character, as JSON may spell it


def plain(value: Any) -> Any:
    """``value`` as what JSON knows; NumPy and torch numbers become Python's, anything else becomes its text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(entry) for entry in value), key=str)
    if callable(getattr(value, "tolist", None)) and not isinstance(value, type):  # NumPy's and torch's numbers
        return plain(value.tolist())
    return text(str(value))


def text(value: str) -> str:
    """``value`` as it may be stored: without passwords in addresses, and without what not every database can hold.

    That is NUL, and lone surrogates, which file names may bring.
    """
    return without_passwords(value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8"))


def dumps(value: Any) -> str:
    """JSON text of ``value``, see :func:`plain`."""
    return json.dumps(plain(value), ensure_ascii=False)


def loads(stored: str) -> Any:
    """What :func:`dumps` wrote, or somebody else: without what no page and no terminal could be sent.

    Raises:
        ValueError: If it is no JSON.
    """
    value = json.loads(stored)
    return plain(value) if _SURROGATE.search(stored) else value
