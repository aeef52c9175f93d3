"""The dashboard's application: page, callbacks, and who may ask for them."""

from __future__ import annotations

from urllib.parse import quote

from dash import Dash

from cockpit.dashboard import downloads
from cockpit.dashboard.callbacks import register
from cockpit.dashboard.guard import THIS_MACHINE, Access, protect
from cockpit.dashboard.layout import skeleton
from cockpit.dashboard.sources import Sources
from cockpit.store import Store

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


def create_app(store: Store, access: Access = THIS_MACHINE) -> Dash:
    """The dashboard for the runs of ``store``; ``create_app(store).server`` is its WSGI application.

    Args:
        store: The runs. There may be none yet; they appear as they come.
        access: From where it may be asked for, and by whom; by default from this machine, by everybody on it.
    """
    app = Dash(
        __package__,
        title="Cockpit",
        update_title="",
        serve_locally=True,
        assets_ignore="^report",  # a report brings these itself
        add_log_handler=False,
        enable_mcp=False,
        index_string=_INDEX,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = skeleton()
    sources = Sources(store)
    register(app, sources)
    downloads.register(app, sources)
    protect(app, access)
    return app
