"""Which commands there are, and their options."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path

FAULTS = ("raw-pixels", "sigmoid", "frozen-layer")


class UsageError(Exception):
    """What the user asked for cannot be done; the message says why."""


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    root = argparse.ArgumentParser(prog="cockpit", description="A training debugger for PyTorch.")
    root.add_argument("--version", action="version", version=version("cockpit-debugger"))
    commands = root.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    _add_demo(commands.add_parser("demo", help="train a small network and watch it live"))
    _add_dashboard(commands.add_parser("dashboard", help="show the runs below a directory in a browser"))
    _add_runs(commands.add_parser("runs", help="list the runs below a directory"))
    _add_diff(commands.add_parser("diff", help="what two runs were set to, and from which step on they are apart"))
    _add_tail(commands.add_parser("tail", help="follow a run as text"))
    _add_export(commands.add_parser("export", help="write a run as a table, a report or a picture, or pass it on"))
    _add_report(commands.add_parser("report", help="write a run as one page of HTML that opens anywhere"))
    _add_import(commands.add_parser("import", help="make a run of a log that f-dangel/cockpit has written"))
    _add_meta_train(commands.add_parser("meta-train", help="learn the weights of a learned optimizer"))
    return root


def _add_demo(command: argparse.ArgumentParser) -> None:
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
    command.add_argument("logdir", nargs="?", default="runs", help="directory of runs, or a database (%(default)s)")


def _add_diff(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", metavar="A", help="directory of a run, runs/mnist-sgd, or its address in a database")
    command.add_argument("b", metavar="B", help="directory or address of another")
    command.add_argument(
        "--top", type=_count, default=30, metavar="N", help="lines of the ranking (%(default)s); 0: all"
    )
    command.add_argument("--json", action="store_true", help="write one JSON object")


def _add_tail(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="directory of a run, runs/mnist-sgd, or its address in a database")
    command.add_argument(
        "--keys", type=_keys, metavar="KEY,KEY", help="log keys to show (loss, a few others, your own)"
    )
    command.add_argument("--lines", type=_count, default=10, metavar="N", help="earlier readings to show (%(default)s)")


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", help="directory of a run, runs/mnist-sgd, or its address in a database")
    formats = ["csv", "parquet", "json", "html", "png", "svg", "pdf", "tensorboard", "wandb"]
    command.add_argument("--to", "--format", choices=formats, required=True, help="format")
    command.add_argument("--output", "-o", type=Path, metavar="FILE", help="where to write (standard output)")
    command.add_argument("--project", metavar="NAME", help="project of Weights & Biases")


def _add_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="directory of a run, runs/mnist-sgd, or its address in a database")
    command.add_argument("--output", "-o", type=Path, metavar="FILE", help="where to write (the run's name.html)")


def _add_import(command: argparse.ArgumentParser) -> None:
    command.add_argument("log", type=Path, metavar="LOG.json", help="the log")
    command.add_argument("--to", metavar="DIR", help="directory or address of the run (runs/LOG)")


def _add_meta_train(command: argparse.ArgumentParser) -> None:
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
