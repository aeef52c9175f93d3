"""Who may see the runs and change what stands beside them, and what the browser may do on the page's behalf."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from dash import Dash
from flask import Response, request

LOOPBACK = ("127.0.0.1", "localhost", "::1")

_TOKEN = "token"  # in the address that lets a browser in
_READING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Access:
    """From where, and to whom, the page answers.

    Args:
        hosts: Names under which the page may be asked for. A request with another ``Host`` is refused: a page elsewhere
            could otherwise have its own name point to this machine and read the runs.
        addresses: Whether any address in numbers may stand in a name's place, as for a server that listens on all
            addresses of its machine: no page elsewhere has such a name.
        token: What a browser must have brought once, in the address, to be answered; ``None`` lets everybody in.
        frames: Origins of pages that may show this one within themselves, as a content security policy names them.
    """

    hosts: Sequence[str] = LOOPBACK
    addresses: bool = False
    token: str | None = None
    frames: Sequence[str] = ()


THIS_MACHINE = Access()


def protect(app: Dash, access: Access) -> None:
    """Examine every request before it is answered, and tell the browser with every answer what it must keep to."""

    def examine() -> Response | None:
        return _foreign_host(access) or _foreign_page() or (_stranger(access.token) if access.token else None)

    app.server.before_request(examine)
    app.server.after_request(_restriction(_policy(app, access.frames)))


def _policy(app: Dash, frames: Sequence[str]) -> str:
    """The page asks no other server for anything, and runs no script but its own."""
    scripts = " ".join(app.csp_hashes())
    return (
        f"default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {' '.join(frames) or chr(39) + 'none' + chr(39)}"
    )


def _restriction(policy: str) -> Callable[[Response], Response]:
    def restrict(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return restrict


def refusal(status: int, words: str) -> Response:
    """An answer in words."""
    return Response(words, status, mimetype="text/plain", headers={"Cache-Control": "no-store"})


def _foreign_host(access: Access) -> Response | None:
    """A refusal where the page was asked for under another's name."""
    name = urlsplit(f"//{request.host}").hostname
    if name in access.hosts or (access.addresses and _is_address(name)):
        return None
    return refusal(403, f"This dashboard answers to {', '.join(sorted(access.hosts))} only.")


def _is_address(name: str | None) -> bool:
    try:
        ipaddress.ip_address(name or "")
    except ValueError:
        return False
    return True


def asked_from_elsewhere() -> bool:
    """Whether it is not the dashboard's own page that asks. Browsers say who does; other programs need not."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    return site not in (None, "same-origin") or (origin is not None and urlsplit(origin).netloc != request.host)


def _foreign_page() -> Response | None:
    """A refusal where another page asks for a change."""
    if request.method in _READING or not asked_from_elsewhere():
        return None
    return refusal(403, "Only the dashboard's own page may ask for that.")


def _stranger(token: str) -> Response | None:
    """A refusal without the token; with it in the address, a cookie for it, and the way to the address without it."""
    cookie = f"cockpit-{request.environ['SERVER_PORT']}"  # browsers keep cookies by host, whatever the port
    offered = request.args.get(_TOKEN)
    if offered is None:
        if _same(request.cookies.get(cookie, ""), token):
            return None
        return refusal(
            401,
            "This dashboard asks for a token. Open the address that was printed when it was started; if you have "
            "just followed a link to it, load this page again.",
        )
    if not _same(offered, token):
        return refusal(403, "This is not the token of this dashboard. Each start makes a new one and prints it.")
    rest = urlencode([(name, value) for name, value in request.args.items(multi=True) if name != _TOKEN])
    answer = Response(status=303, headers={"Location": f"/?{rest}" if rest else "/", "Cache-Control": "no-store"})
    answer.set_cookie(cookie, token, httponly=True, samesite="Strict", secure=request.is_secure)
    return answer


def _same(offered: str, token: str) -> bool:
    """Takes as long whatever is offered."""
    return hmac.compare_digest(offered.encode("utf-8", "replace"), token.encode())
