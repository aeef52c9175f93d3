"""HTML that is built and never pasted together: whatever text stands in it stays text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias
from xml.etree import ElementTree

Element: TypeAlias = ElementTree.Element
Content: TypeAlias = "Element | str"


def element(tag: str, *content: Content, **attributes: str) -> Element:
    """An element with its content.

    Args:
        tag: Its name. What stands in a ``script`` or ``style`` is written as it is: never hand over stored text there.
        content: Elements and text, in order.
        attributes: Its attributes; ``class_`` is ``class``, ``data_panel`` is ``data-panel``.

    Example:
        >>> document(element("p", "a < b ", element("b", "c"), class_="how"))
        '<!DOCTYPE html>\\n<p class="how">a &lt; b <b>c</b></p>'
    """
    made = ElementTree.Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    last: Element | None = None
    for part in content:
        if isinstance(part, ElementTree.Element):
            made.append(part)
            last = part
        elif last is None:
            made.text = (made.text or "") + part
        else:
            last.tail = (last.tail or "") + part
    return made


def table(rows: Iterable[Sequence[str]], headings: Sequence[str] = (), **attributes: str) -> Element:
    """A table of text."""
    lines = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    head = [element("thead", element("tr", *(element("th", name) for name in headings)))] if headings else []
    return element("table", *head, element("tbody", *lines), **attributes)


def document(root: Element) -> str:
    """The text of a page."""
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html")
