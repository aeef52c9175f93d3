"""Learned weights of an optimizer, and the files that hold them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from cockpit.optim.learned.rule import Rule, Tensors, blank

FORMAT = "cockpit learned optimizer"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Weights:
    """Meta-parameters that were learned, and the rule that they belong to.

    Args:
        rule: The rule, with its settings.
        meta: Its meta-parameters.
        provenance: Where they come from: recipe, seed, number of iterations. Numbers and texts by name.

    Raises:
        ValueError: If names or shapes are not those of the rule, or a number is not finite.
    """

    rule: Rule
    meta: Tensors
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected, found = shapes(blank(self.rule)), shapes(self.meta)
        if expected != found:
            raise ValueError(f"{self.rule.name} has meta-parameters {_listed(expected)}; these are {_listed(found)}")
        if broken := [name for name, tensor in self.meta.items() if not tensor.isfinite().all()]:
            raise ValueError(f"meta-parameters of {self.rule.name} are not finite: {', '.join(broken)}")

    def fingerprint(self) -> str:
        """The same for the same rule, settings and meta-parameters."""
        digest = hashlib.sha256(repr((_identity(self.rule), shapes(self.meta))).encode())
        for tensor in self.meta.values():
            digest.update(tensor.detach().cpu().double().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Writes a file that :meth:`load` reads. It holds tensors, numbers and texts, and no code.

        Args:
            path: The file; where it ends in ``.json`` all is written as text, of the same numbers to the last bit.

        Raises:
            OSError: If it cannot be written.
        """
        content = {**_identity(self.rule), "provenance": dict(self.provenance)}
        if Path(path).suffix == ".json":
            meta = {name: {"dtype": str(t.dtype)[6:], "values": t.tolist()} for name, t in self.meta.items()}
            _write_text(Path(path), {"format": FORMAT, "format_version": FORMAT_VERSION, **content, "meta": meta})
        else:
            save_as(path, FORMAT, {**content, "meta": {n: t.detach().cpu().clone() for n, t in self.meta.items()}})

    @classmethod
    def load(cls, path: str | Path, rule: type[Rule]) -> Weights:
        """Reads a file of weights.

        Args:
            path: The file.
            rule: Which rule they are to be for.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is no file of weights, or of another rule, version or shape.
        """
        content = _read_text(Path(path)) if Path(path).suffix == ".json" else load_as(path, FORMAT)
        if content.get("rule") != rule.name:
            raise ValueError(f"{path} holds weights of {content.get('rule')!r}; weights of {rule.name!r} were expected")
        if content.get("version") != rule.version:
            raise ValueError(
                f"{path} holds weights of version {content.get('version')} of {rule.name}, and this is version "
                f"{rule.version}: meta-train it again, or use the release of Cockpit that wrote them"
            )
        try:
            return cls(rule(**content["settings"]), content["meta"], content["provenance"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} holds no weights that fit {rule.name}: {error}") from error


def shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def save_as(path: str | Path, kind: str, content: Mapping[str, Any]) -> None:
    """Writes a file of tensors, numbers, texts and collections of these; what was there before is replaced at once.

    Raises:
        OSError: If it cannot be written.
    """
    with _replacing(Path(path)) as unfinished, unfinished.open("wb") as file:
        torch.save({"format": kind, "format_version": FORMAT_VERSION, **content}, file)


def load_as(path: str | Path, kind: str) -> dict[str, Any]:
    """Reads what :func:`save_as` wrote; nothing in the file is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind, or of a later version.
    """
    with Path(path).open("rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is no file of a {kind}: {str(error).partition(chr(10))[0]}") from error
    return _checked(path, content, kind)


def _checked(path: str | Path, content: Any, kind: str) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("format") != kind:
        raise ValueError(f"{path} is no file of a {kind}")
    if content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} is in version {content.get('format_version')} of its format, and version {FORMAT_VERSION} is what "
            "this release reads: upgrade Cockpit"
        )
    return content


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of another once all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_text(path: Path, content: Mapping[str, Any]) -> None:
    with _replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_text(path: Path) -> dict[str, Any]:
    """What :func:`_write_text` wrote, its lists as tuples, as settings of rules are."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no file of a {FORMAT}: {error}") from error
    content = _checked(path, content, FORMAT)
    try:
        settings = {name: _tuples(value) for name, value in content["settings"].items()}
        meta = {n: torch.tensor(t["values"], dtype=getattr(torch, t["dtype"])) for n, t in content["meta"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} holds no weights: {error}") from error
    return {**content, "settings": settings, "meta": meta}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _identity(rule: Rule) -> dict[str, Any]:
    return {"rule": rule.name, "version": rule.version, "settings": asdict(rule)}


def _listed(found: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in found.items()) or "none"
