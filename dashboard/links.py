"""Links within the page: ``assets/links.js`` follows them without loading it anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from dash import html
from dash.development.base_component import Component

from cockpit.dashboard.page import Page


def link(
    children: Any, page: Page, view: str, more: Mapping[str, str | None], *, enters: bool = False, **props: Any
) -> Component:
    """A link to a view.

    Args:
        children: What is seen of it.
        page: What is shown now: the link keeps to its run, and within one view to the rest of ``more``.
        view: Where it leads.
        more: The view's part of the address; within the view what of it changes, ``None`` takes an entry away.
        enters: Whether the browser's way back leads here again, as it does from one view to another.
        props: Of the element.
    """
    kept = {**(page.choice.more if page.choice.view == view else {}), **more}
    query = {"run": page.run, "view": view, **kept}
    href = "?" + urlencode({name: value for name, value in query.items() if value})
    data: dict[str, Any] = {"data-view": view, "data-more": json.dumps(dict(more)), **props}
    if enters:
        data["data-enters"] = "yes"
    element: Component = html.A(children, href=href, **data)
    return element
