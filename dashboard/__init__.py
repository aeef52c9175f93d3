"""The dashboard: draws runs in a browser, live or afterwards, from their logs alone. Knows no instrument, no torch."""

if __name__ != "cockpit.dashboard":
    raise ImportError(f"import this package as cockpit.dashboard, not as {__name__}: else there would be two of it")

from cockpit.dashboard.app import create_app as create_app
from cockpit.dashboard.server import PORT as PORT
from cockpit.dashboard.server import Server as Server
from cockpit.dashboard.server import serve as serve
