"""The command line: ``cockpit demo``, ``dashboard``, ``runs``, ``diff``, ``tail``, ``export``, ``report``, ``import``
and ``meta-train``.

Each command imports what it needs when it runs: listing runs must not wait for torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cockpit.commands.options import UsageError, parser
from cockpit.commands.terminal import printable, table

if TYPE_CHECKING:
    from cockpit.run import Run
    from cockpit.store.address import Place


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, or 2 after a mistake that was named on the standard error stream."""
    options = parser().parse_args(argv)
    try:
        _COMMANDS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (OSError, UsageError) as error:
        print(f"cockpit: {printable(_told(error))}", file=sys.stderr)
        return 2
    return 0


def _told(error: OSError | UsageError) -> str:
    """What the system says of a file, or our own words."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _demo(options: argparse.Namespace) -> None:
    from cockpit.commands import demo
    from cockpit.datasets import DataError

    chosen = {name: value for name, value in vars(options).items() if name != "command"}
    try:
        demo.run(demo.Options(**chosen))
    except DataError as error:
        raise UsageError(str(error)) from error


def _place(text: str) -> Place:
    from cockpit.store.address import place_of

    try:
        return place_of(text)
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from error


def _loaded(text: str) -> Run:
    from cockpit.run import load_run

    try:
        return load_run(text)
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from error


def _dashboard(options: argparse.Namespace) -> None:
    from cockpit.dashboard import serve
    from cockpit.store import Store

    place = _place(options.logdir)
    if isinstance(place, Path) and not place.is_dir():
        raise UsageError(f"there is no directory {place}; runs are where `Cockpit(..., run=...)` put them")
    server = serve(Store(place), host=options.host, port=options.port, allow_hosts=options.allow_host)
    with server, suppress(KeyboardInterrupt):  # it may come as soon as it is offered
        print(f"{server.announcement()}\nCtrl-C ends it.", flush=True)
        server.wait()


def _runs(options: argparse.Namespace) -> None:
    from cockpit.run import list_runs

    place = _place(options.logdir)
    runs = list_runs(place)
    if not runs:
        print(f"There are no runs in {place}.")
        return
    rows = [("NAME", "STATE", "LAST STEP", "LAST LOSS", "STARTED")]
    for run in runs:
        steps = "" if run.last_step is None else str(run.last_step)
        loss = "" if run.last_loss is None else f"{run.last_loss:.4g}"
        rows.append((run.name, run.state, steps, loss, _moment(run.created)))
    print(*table(rows, None), sep="\n")
    for run in runs:
        if run.reason:
            print(printable(f"cockpit: {run.name} cannot be read: {run.reason}"), file=sys.stderr)


def _moment(created: float) -> str:
    """Date and time; as it stands where a machine's clock said what no calendar has."""
    try:
        return datetime.fromtimestamp(created).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{created:.0f} s"


def _diff(options: argparse.Namespace) -> None:
    from cockpit.commands import diff, terminal
    from cockpit.store import UnreadableLog

    try:
        a, b = _loaded(options.a), _loaded(options.b)
        if options.json:
            diff.write_json(a, b, sys.stdout)
        else:
            diff.write_text(a, b, sys.stdout, top=options.top, room=terminal.width())
    except UnreadableLog as error:
        raise UsageError(str(error)) from error


def _tail(options: argparse.Namespace) -> None:
    from cockpit.commands.tail import Tail
    from cockpit.commands.terminal import width
    from cockpit.store import UnreadableLog

    try:
        Tail(_loaded(options.run), options.keys, sys.stdout, width()).follow(options.lines)
    except UnreadableLog as error:
        raise UsageError(str(error)) from error


def _export(options: argparse.Namespace) -> None:
    from cockpit.commands.export import export
    from cockpit.store import UnreadableLog

    try:
        export(_loaded(options.run), options)
    except (ImportError, UnreadableLog) as error:
        raise UsageError(str(error)) from error


def _report(options: argparse.Namespace) -> None:
    from cockpit.dashboard.layout import file_name
    from cockpit.store import UnreadableLog

    try:
        run = _loaded(options.run)
        target: Path = options.output or Path(f"{file_name(run.name)}.html")
        run.report(target)
    except UnreadableLog as error:
        raise UsageError(str(error)) from error
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, opens in any browser")


def _import(options: argparse.Namespace) -> None:
    from cockpit.formats.json_import import import_json

    where = None if options.to is None else _place(options.to)
    try:
        place, left_out = import_json(options.log, where)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(place)
    if left_out:
        print(f"cockpit: no run has a place for {', '.join(left_out)}", file=sys.stderr)


def _meta_train(options: argparse.Namespace) -> None:
    from cockpit.optim.learned.command import learn

    chosen = {name: value for name, value in vars(options).items() if name != "command"}
    try:
        print(learn(**chosen))
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from error


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _demo,
    "dashboard": _dashboard,
    "runs": _runs,
    "diff": _diff,
    "tail": _tail,
    "export": _export,
    "report": _report,
    "import": _import,
    "meta-train": _meta_train,
}
