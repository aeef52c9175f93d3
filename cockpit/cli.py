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
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cockpit.commands.terminal import printable, table

if TYPE_CHECKING:
    from cockpit.run import Run
    from cockpit.store.address import Place

FAULTS = ("raw-pixels", "sigmoid", "frozen-layer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, or 2 after a mistake that was named on the standard error stream."""
    options = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (OSError, UsageError) as error:
        print(f"cockpit: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


class UsageError(Exception):
    """What the user asked for cannot be done; the message says why."""


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    root = argparse.ArgumentParser(prog="cockpit", description="A training debugger for PyTorch.")
    root.add_argument("--version", action="version", version=version("cockpit-debugger"))
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands.add_parser("demo", help="train a small network and watch it live"))
    _add_dashboard(commands.add_parser("dashboard", help="show the runs below a directory in a browser"))
    _add_runs(commands.add_parser("runs", help="list the runs below a directory"))
    _add_diff(commands.add_parser("diff", help="what two runs were set to, and from which step on they are apart"))
    _add_tail(commands.add_parser("tail", help="follow a run as text"))
    _add_export(commands.add_parser("export", help="write a run as CSV, Parquet, JSON or a picture, or pass it on"))
    _add_report(commands.add_parser("report", help="write a run as one page of HTML that opens anywhere"))
    _add_import(commands.add_parser("import", help="make a run of a log that f-dangel/cockpit has written"))
    _add_meta_train(commands.add_parser("meta-train", help="learn the weights of a learned optimizer"))
    return root


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_demo)
    command.add_argument("--data", choices=["digits", "mnist"], default="digits", help="images to train on")
    command.add_argument("--data-dir", type=Path, metavar="DIR", help="where the four IDX files of MNIST lie")
    command.add_argument("--fault", choices=FAULTS, help="train a sabotaged twin beside the healthy network")
    command.add_argument("--steps", type=_positive, default=8000, metavar="N", help="training steps (%(default)s)")
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of parameters and batches (%(default)s)"
    )
    command.add_argument(
        "--track", type=_positive, metavar="N", help="read every Nth step instead of what a tenth more time pays for"
    )
    command.add_argument("--logdir", type=Path, default=Path("runs"), help="where the runs are written (%(default)s)")
    command.add_argument("--port", type=_port, metavar="N", help="port of the dashboard (8765); 0 takes a free one")
    command.add_argument("--exit", action="store_true", help="end after training instead of serving on")


def _add_dashboard(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_dashboard)
    command.add_argument("logdir", nargs="?", default="runs", help="directory of runs, or a database (%(default)s)")
    command.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (%(default)s); others ask for a token",
    )
    command.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name that the page may be asked for by; again",
    )
    command.add_argument("--port", type=_port, metavar="N", help="port (8765); 0 takes a free one")


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_runs)
    command.add_argument("logdir", nargs="?", default="runs", help="directory of runs, or a database (%(default)s)")


def _add_diff(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_diff)
    command.add_argument("a", metavar="A", help="directory of a run, runs/mnist-sgd, or its address in a database")
    command.add_argument("b", metavar="B", help="directory or address of another")
    command.add_argument(
        "--top", type=_count, default=30, metavar="N", help="lines of the ranking (%(default)s); 0: all"
    )
    command.add_argument("--json", action="store_true", help="write one JSON object")


def _add_tail(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_tail)
    command.add_argument("run", metavar="RUN", help="directory of a run, runs/mnist-sgd, or its address in a database")
    command.add_argument(
        "--keys", type=_keys, metavar="KEY,KEY", help="log keys to show (loss, a few others, your own)"
    )
    command.add_argument("--lines", type=_count, default=10, metavar="N", help="earlier readings to show (%(default)s)")


def _add_export(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_export)
    command.add_argument("run", help="directory of a run, runs/mnist-sgd, or its address in a database")
    formats = ["csv", "parquet", "json", "png", "pdf", "tensorboard", "wandb"]
    command.add_argument("--to", "--format", choices=formats, required=True, help="format")
    command.add_argument("--output", type=Path, metavar="FILE", help="where to write (standard output)")
    command.add_argument("--project", metavar="NAME", help="project of Weights & Biases")


def _add_report(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_report)
    command.add_argument("run", metavar="RUN", help="directory of a run, runs/mnist-sgd, or its address in a database")
    command.add_argument("--output", "-o", type=Path, metavar="FILE", help="where to write (the run's name.html)")


def _add_import(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_import)
    command.add_argument("log", type=Path, metavar="LOG.json", help="the log")
    command.add_argument("--to", metavar="DIR", help="directory or address of the run (runs/LOG)")


def _add_meta_train(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_meta_train)
    command.add_argument(
        "name", metavar="NAME", help="what to learn: lure, ml3, l2o_lstm, …; an unknown name lists all"
    )
    command.add_argument("--episodes", type=_positive, metavar="N", help="updates of the weights (the recipe's)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of everything by chance (%(default)s)")
    command.add_argument("--out", type=Path, metavar="FILE", help="where the weights are written (NAME.pt)")
    command.add_argument("--data-dir", type=Path, metavar="DIR", help="where the four IDX files of MNIST lie")
    command.add_argument("--logdir", default="runs", metavar="DIR", help="where its run is written (%(default)s)")
    command.add_argument(
        "--every", type=_positive, default=500, metavar="N", help="episodes a checkpoint (%(default)s)"
    )
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint beside the weights")
    command.add_argument("--quiet", action="store_true", help="without the progress bar")


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"at least 1 was expected, got {number}")
    return number


def _count(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"0 or more was expected, got {number}")
    return number


def _keys(text: str) -> list[str]:
    keys = [key.strip() for key in text.split(",") if key.strip()]
    if not keys:
        raise argparse.ArgumentTypeError("log keys with commas between them were expected, got none")
    return keys


def _port(text: str) -> int:
    if not 0 <= (number := int(text)) <= 65535:
        raise argparse.ArgumentTypeError(f"a port lies between 0 and 65535, got {number}")
    return number


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
