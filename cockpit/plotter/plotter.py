"""``CockpitPlotter``: the static screen from a live cockpit, a run, or its path."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import matplotlib as mpl
from matplotlib.figure import Figure

from cockpit.drawing.arrange import arrange
from cockpit.plotter.page import Page, draw_page
from cockpit.plotter.scene import Log, scenes_of
from cockpit.plotter.theme import PAPER, undisturbed
from cockpit.run import Run, load_run
from cockpit.store import Header
from cockpit.store.address import Address, Place, place_of

DPI = 130  # of pictures made of pixels
SCREEN_DPI = 70  # a page has to fit a window
SILENT = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # matplotlib's backends without windows


@runtime_checkable
class Live(Protocol):
    """A cockpit that is writing a run; where it is turned off its ``run`` is ``None``."""

    @property
    def run(self) -> Place | None:
        """Directory or address of its log."""

    def flush(self) -> None:
        """Waits until what was read so far is in the log; warns if it is not there in time."""


class CockpitPlotter:
    """Draws a run's panels on one page: the source's Figure 7.2, as far as the run has its instruments.

    Args:
        secondary_screen: Whether what has no place on the screen, a user's own instruments too, is drawn below it.
    """

    def __init__(self, secondary_screen: bool = True) -> None:
        self._secondary_screen = secondary_screen

    def plot(
        self,
        source: str | Place | Run | Live,
        show_plot: bool = True,
        block: bool = False,
        save_plot: bool | None = None,
        savedir: str | Path | None = None,
        savename: str = "cockpit",
        savename_append: str | None = None,
        savefig_kwargs: Mapping[str, Any] | None = None,
        show_log_iter: bool = False,
        discard: int | None = None,
        plot_title: str | None = None,
        debug: bool = False,
    ) -> Figure | None:
        """Draws the current state of a run, shows it, and writes it to a file.

        Reads the log alone: training, its random numbers and matplotlib's settings stay as they are.

        Args:
            source: A cockpit, live or closed; a run; the path or address of one, or the path of a JSON log, with or
                without its ending.
            show_plot: Whether it is shown in a window. Where matplotlib has no window to show it in, this is said.
            block: Whether to wait until the window is closed.
            save_plot: Whether it is written; by default, if ``savedir`` is given.
            savedir: Where it is written; by default beside the run's log, or here where that is in a database.
            savename: Name of the file, without an ending.
            savename_append: What is put behind the name, after two underscores.
            savefig_kwargs: For ``Figure.savefig``. ``{"format": "pdf"}`` makes it a PDF, else it is a PNG.
            show_log_iter: Whether steps stand on a logarithmic axis.
            discard: The last step that counts: the picture is as it was then.
            plot_title: Title; by default the run's name.
            debug: Has no effect; the source's signature has it.

        Returns:
            The figure; ``None`` for a cockpit that is turned off.

        Raises:
            TypeError: For a source of another kind.
            FileNotFoundError: If there is no run at the path.
        """
        run = _opened(source)
        if run is None:
            return None
        page = _page_of(run, discard, show_log_iter, self._secondary_screen)
        title = plot_title or run.name
        window = show_plot and _has_windows()
        with undisturbed():
            figure = _window(page.size) if window else Figure(figsize=page.size, facecolor=PAPER)
            draw_page(figure, page, title, _subtitle(run.header, page.last_step, run.state))
        if save_plot or (save_plot is None and savedir is not None):
            name = savename if savename_append is None else f"{savename}__{savename_append}"
            beside = run.reader.path.parent if isinstance(run.reader.path, Path) else Path()
            _save(figure, beside if savedir is None else Path(savedir), name, savefig_kwargs or {})
        if window:
            _show(block)
        return figure


def write(figure: Figure, target: str | Path | IO[bytes], **settings: Any) -> None:
    """Writes a picture, with matplotlib's default settings and those given, which are ``Figure.savefig``'s."""
    with undisturbed():
        figure.savefig(target, **{"dpi": DPI, **settings})


def _opened(source: str | Place | Run | Live) -> Run | None:
    """The run of ``source``, as far as it went; ``None`` if it has none."""
    if isinstance(source, Run):
        return source
    if isinstance(source, (str, Path, Address)):
        place = place_of(source)
        return _at(place) if isinstance(place, Path) else load_run(place)
    if isinstance(source, Live):
        if source.run is None:
            return None
        source.flush()
        return load_run(source.run)
    raise TypeError(f"a cockpit, a run or the path of a run was expected, got {type(source).__name__}")


def _at(path: Path) -> Run:
    """A run; or a JSON log, which f-dangel/cockpit names without its ending."""
    log = path if path.suffix == ".json" else Path(f"{path}.json")
    if path.is_dir() or not log.is_file():
        return load_run(path)
    from cockpit.formats.json_import import load_json  # it knows instruments, which take torch along

    return load_json(log)


def _page_of(run: Run, until: int | None, log_steps: bool, secondary: bool) -> Page:
    header = run.header
    log = Log(run.reader, until)
    scenes = scenes_of(log, header.panels, log_steps)
    screen = next((screen for screen in header.screens if screen.paper), None)
    unprinted = {place.panel for other in header.screens if not other.paper for place in other.places}
    panels = {name: scene.panel for name, scene in scenes.items() if name not in unprinted}
    arrangement = arrange(screen, panels)
    if not secondary and arrangement.places:
        arrangement = replace(arrangement, rest=())
    return Page.of(arrangement, scenes, log.span[1])


def _subtitle(header: Header, last_step: int, state: str) -> str:
    """Model, optimizer, and how far it went."""
    parameters = sum(int(entry["numel"]) for entry in header.model.get("parameters", ()))
    model = f"{header.model['class']}, {parameters:,} parameters" if "class" in header.model else ""
    optimizers = " + ".join(str(optimizer["class"]) for optimizer in header.optimizer)
    return "  ·  ".join(part for part in (model, optimizers, f"step {last_step:,}", state) if part)


def _save(figure: Figure, directory: Path, name: str, settings: Mapping[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.{settings.get('format', 'png')}"
    write(figure, path, **settings)
    print(f"cockpit: drawn -> {path}", file=sys.stderr)


def _has_windows() -> bool:
    if mpl.get_backend().lower() not in SILENT:
        return True
    print("cockpit: matplotlib has no window to show the picture in; savedir=... writes it", file=sys.stderr)
    return False


def _window(size: tuple[float, float]) -> Figure:
    """The window of the last picture, emptied, or a new one."""
    import matplotlib.pyplot as plt

    figure = plt.figure("Cockpit", figsize=size, dpi=SCREEN_DPI, facecolor=PAPER, clear=True)
    figure.set_size_inches(*size)
    return figure


def _show(block: bool) -> None:
    import matplotlib.pyplot as plt

    plt.show(block=block)
    if not block:
        plt.pause(0.001)  # lets the window draw itself
