"""The dashboard's application: page, callbacks, and what keeps it to this machine."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import quote, urlsplit

from dash import Dash
from flask import Response, request

from cockpit.dashboard.callbacks import register
from cockpit.dashboard.layout import skeleton
from cockpit.dashboard.source import Sources
from cockpit.store import Store

LOOPBACK = ("127.0.0.1", "localhost", "::1")

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="#0060a8"/>'
    '<path d="M8 8l3.5-3.5" stroke="#fff" stroke-width="1.8" stroke-linecap="round"/></svg>'
)
_INDEX = f"""<!DOCTYPE html>
<html lang="en">
    <head>
        {{%metas%}}
        <title>{{%title%}}</title>
        <link rel="icon" href="data:image/svg+xml,{quote(_ICON)}">
        {{%css%}}
    </head>
    <body>
        {{%app_entry%}}
        <footer>
            {{%config%}}
            {{%scripts%}}
            {{%renderer%}}
        </footer>
    </body>
</html>"""


def create_app(store: Store, *, hosts: Collection[str] = LOOPBACK) -> Dash:
    """The dashboard for the runs of ``store``; ``create_app(store).server`` is its WSGI application.

    Args:
        store: The runs. There may be none yet; they appear as they come.
        hosts: Names under which the page may be asked for. A request with another ``Host`` is refused: a page elsewhere
            could otherwise have its own name point to this machine and read the runs.
    """
    app = Dash(
        __package__,
        title="Cockpit",
        update_title="",
        serve_locally=True,
        add_log_handler=False,
        enable_mcp=False,
        index_string=_INDEX,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = skeleton()
    register(app, Sources(store))
    _keep_to_itself(app, hosts)
    return app


def _keep_to_itself(app: Dash, hosts: Collection[str]) -> None:
    """Refuse requests that name another host, and have the browser ask no other server for anything."""
    scripts = " ".join(app.csp_hashes())
    policy = (
        f"default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    )

    def refuse_foreign_hosts() -> Response | None:
        if urlsplit(f"//{request.host}").hostname in hosts:
            return None
        return Response(f"This dashboard answers to {', '.join(sorted(hosts))} only.", 403, mimetype="text/plain")

    def restrict(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    app.server.before_request(refuse_foreign_hosts)
    app.server.after_request(restrict)
