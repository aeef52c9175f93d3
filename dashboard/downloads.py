"""A run to take along: all of its numbers as CSV, all of its points as Parquet, and the report."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO
from urllib.parse import urlencode

from dash import Dash, html
from dash.development.base_component import Component
from flask import Response, request, send_file

from cockpit.dashboard.guard import asked_from_elsewhere, refusal
from cockpit.dashboard.layout import file_name
from cockpit.dashboard.page import Page, explain
from cockpit.dashboard.sources import Sources
from cockpit.run import Run
from cockpit.store import UnreadableLog

PATH = "/download"


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        ending: Of its name.
        words: What it is called on the page.
        mimetype: What it is called on the way.
        write: Makes it.
    """

    ending: str
    words: str
    mimetype: str
    write: Callable[[Run, IO[bytes]], None]


def _csv(run: Run, file: IO[bytes]) -> None:
    from cockpit.formats.export import to_csv

    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    to_csv(run, text)
    text.detach()


def _parquet(run: Run, file: IO[bytes]) -> None:
    from cockpit.formats.parquet import to_parquet  # what it needs is an extra

    to_parquet(run, file)


def _report(run: Run, file: IO[bytes]) -> None:
    from cockpit.dashboard.report import write_report

    write_report(run.reader, file)


FORMATS = {
    each.ending: each
    for each in (
        Format("csv", "All numbers, CSV", "text/csv", _csv),
        Format("parquet", "All points, Parquet", "application/vnd.apache.parquet", _parquet),
        Format("html", "Report, one page of HTML", "text/html", _report),
    )
}


def downloads(page: Page) -> Component:
    """What there is to download of a run, on a click."""
    links = [
        html.Li(html.A(each.words, href=f"{PATH}/{ending}?{urlencode({'run': page.run})}", target="_blank"))
        for ending, each in FORMATS.items()
    ]
    return html.Details([html.Summary("Download"), html.Ul(links)], className="unfolding downloads", id="downloads")


def register(app: Dash, sources: Sources) -> None:
    """Answer what :func:`downloads` links to."""

    @app.server.get(f"{PATH}/<ending>")  # type: ignore[untyped-decorator]
    def download(ending: str) -> Response:
        typed = request.headers.get("Sec-Fetch-Site") == "none"  # as an address, by a person
        if asked_from_elsewhere() and not typed:  # it may take long
            return refusal(403, "Only the dashboard's own page may ask for that.")
        if ending not in FORMATS:
            return refusal(404, f"There are downloads of {', '.join(FORMATS)}, not of {ending}.")
        try:
            return _answer(FORMATS[ending], sources, request.args.get("run", ""))
        except KeyError as error:
            return refusal(404, explain(error))
        except (UnreadableLog, ConnectionError) as error:
            return refusal(503, explain(error))
        except ImportError as error:
            return refusal(501, str(error))


def _answer(kind: Format, sources: Sources, name: str) -> Response:
    """The file, once it is whole: what cannot be read is answered in words."""
    with ExitStack() as held:
        run = Run(sources.store.open(name))
        held.callback(run.reader.close)
        file = held.enter_context(tempfile.TemporaryFile())
        kind.write(run, file)
        file.seek(0)
        title = f"{file_name(run.name)}.{kind.ending}"
        answer: Response = send_file(file, kind.mimetype, as_attachment=True, download_name=title, max_age=0)
        answer.call_on_close(held.pop_all().close)
    return answer
