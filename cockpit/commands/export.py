"""``cockpit export``: which format is written where, and what is said about what it leaves out."""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import IO

from cockpit.commands.options import UsageError
from cockpit.run import Run

_TEXT, _SINKS = ("csv", "json"), ("tensorboard", "wandb")
_WHOLE = (*_TEXT, "parquet")  # what has room for all processes of a run


def export(run: Run, options: argparse.Namespace) -> None:
    """Write ``run`` as the command line asks for it.

    Raises:
        UsageError: If what it says cannot be done.
        ImportError: Without the extra that a format needs; names it.
    """
    if options.to not in _WHOLE:
        _tell_whose(run, options)
    if options.to in _SINKS:
        _pass_on(run, options)
    elif options.to in _TEXT:
        _write_text(run, options)
    else:
        _write_bytes(run, options)


def _tell_whose(run: Run, options: argparse.Namespace) -> None:
    """A picture shows one process's points, and so do other tools."""
    from cockpit.store.address import without_passwords

    own = run.reader.number
    other = next((rank for rank in run.ranks if rank != own), None)
    if other is not None:
        elsewhere = f"{without_passwords(options.run).rstrip('/')}/rank{other}"
        print(f"cockpit: these are the points of rank {own} of {len(run.ranks)}; see {elsewhere}", file=sys.stderr)


def _pass_on(run: Run, options: argparse.Namespace) -> None:
    from cockpit.sinks import TensorBoard, WandB
    from cockpit.sinks.passing import pass_on

    if options.to == "tensorboard" and options.output is None:
        raise UsageError("name TensorBoard's directory with --output DIR")
    sink = WandB(options.project) if options.to == "wandb" else TensorBoard(options.output)
    for key, what in pass_on(run, sink).items():
        print(f"cockpit: the {what} of {key!r} are left out", file=sys.stderr)


def _write_text(run: Run, options: argparse.Namespace) -> None:
    from cockpit.formats.export import arrays_of, to_csv, to_json
    from cockpit.store.address import without_passwords

    target = options.output.open("w", encoding="utf-8", newline="") if options.output else nullcontext(sys.stdout)
    with target as file:
        (to_csv if options.to == "csv" else to_json)(run, file)
    for key in arrays_of(run):
        read = f"load_run({without_passwords(options.run)!r})[{key!r}].at(step)"
        print(f"cockpit: the arrays of {key!r} are left out: {read} reads them", file=sys.stderr)


def _write_bytes(run: Run, options: argparse.Namespace) -> None:
    if options.to == "parquet":
        from cockpit.formats.parquet import to_parquet  # before the file is made: what it needs is an extra

        with _opened(options) as file:
            to_parquet(run, file)
        return
    if options.to == "html":
        from cockpit.dashboard.report import write_report

        with _opened(options) as file:
            write_report(run.reader, file)
        return
    from cockpit.formats.export import to_picture

    with _opened(options) as file:
        to_picture(run, file, options.to)


def _opened(options: argparse.Namespace) -> AbstractContextManager[IO[bytes]]:
    if options.output:
        opened: AbstractContextManager[IO[bytes]] = options.output.open("wb")
        return opened
    if sys.stdout.isatty():
        raise UsageError(f"this is nothing to read in a terminal: name a file with --output FILE.{options.to}")
    return nullcontext(sys.stdout.buffer)
