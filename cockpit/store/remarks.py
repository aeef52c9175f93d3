"""What is said about a run after it was written: tags and notes, in a small file beside its log."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cockpit.store.plain import dumps, loads, text

FILE = "annotations.json"
_CHANGING = threading.Lock()


@dataclass(frozen=True)
class Annotations:
    """Tags and notes of a run.

    Args:
        tags: In place of those in its header; ``None`` where these hold.
        notes: Text of any length.
    """

    tags: tuple[str, ...] | None = None
    notes: str = ""


def read(directory: Path) -> Annotations:
    """Those of the run in ``directory``; none where there is no such file, or another's of that name."""
    path = directory / FILE
    try:
        return parsed(path.read_text(encoding="utf-8")) if path.is_file() else Annotations()
    except (FileNotFoundError, ValueError):
        return Annotations()


def parsed(stored: str) -> Annotations:
    """From the JSON text of :func:`stored`; none where that is something else.

    Raises:
        ValueError: If it is no JSON.
    """
    said = loads(stored)
    if not isinstance(said, dict):
        return Annotations()
    tags, notes = said.get("tags"), said.get("notes")
    known = tuple(map(str, tags)) if isinstance(tags, list) else None
    return Annotations(known, notes if isinstance(notes, str) else "")


def changed(said: Annotations, tags: Iterable[str] | None, notes: str | None) -> Annotations:
    """``said`` with other tags or notes, where these are given.

    Raises:
        TypeError: If a tag is no text.
    """
    if tags is not None:
        tags = [tags] if isinstance(tags, str) else list(tags)
        wrong = next((tag for tag in tags if not isinstance(tag, str)), None)
        if wrong is not None:
            raise TypeError(f"tags are texts, got {wrong!r}")
        tags = tuple(dict.fromkeys(text(tag) for tag in tags))
    return Annotations(said.tags if tags is None else tags, said.notes if notes is None else text(notes))


def stored(said: Annotations) -> str:
    """As JSON text."""
    return dumps({"tags": said.tags, "notes": said.notes})


def write(directory: Path, said: Annotations) -> None:
    """Whole or not at all, whoever reads meanwhile.

    Raises:
        OSError: If the directory cannot be written.
    """
    fresh = directory / f".{FILE}.{uuid.uuid4().hex}"
    try:
        fresh.write_text(stored(said), encoding="utf-8")
        os.replace(fresh, directory / FILE)
    finally:
        fresh.unlink(missing_ok=True)


def change(directory: Path, tags: Iterable[str] | None, notes: str | None) -> None:
    """Other tags or notes for the run in ``directory``. Of two changes at once, both are kept.

    Raises:
        TypeError: If a tag is no text.
        OSError: If the directory cannot be written.
    """
    with _CHANGING:
        write(directory, changed(read(directory), tags, notes))


def forget(directory: Path) -> None:
    """Deletes what was said."""
    (directory / FILE).unlink(missing_ok=True)
