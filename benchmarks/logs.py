"""What the log and its dashboard cost: writing, reading, first paint, live ticks, memory; beside TensorBoard's.

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import writing
from log_figures import draw
from long_runs import KEYS, METRICS, lay_down, stretch
from results import aligned, write_csv
from tensorboard import __version__ as tensorboard_version

from cockpit.store import Reader

COCKPIT, TENSORBOARD = "Cockpit", "TensorBoard"


@dataclass(frozen=True)
class Result:
    """One figure.

    Args:
        what: Of what.
        by: Whose.
        steps: Of the run, fifty numbers each.
        value: In ``unit``, a median where it was measured several times.
        unit: Of the value.
        goal: What it is to stay below, in the same unit, if there is a goal.
    """

    what: str
    by: str
    steps: int
    value: float
    unit: str
    goal: float | None = None


def measure_writing(directory: Path, options: argparse.Namespace) -> Iterator[Result]:
    """Ingest, cost of a step, size, and reading all of it back through either library."""
    total = options.steps + options.paced
    for by, found in writing.measure(directory, options.steps, options.paced).items():
        yield Result("ingest", by, total, found.rate, "points/s")
        yield Result("training thread", by, total, 1e6 * found.step, "us/step", 100.0)
        yield Result("other threads", by, total, 1e6 * found.behind, "us/step")
        yield Result("size", by, total, found.bytes_per_point, "bytes/point")
    for by, read in ((COCKPIT, _read_columns), (TENSORBOARD, _read_events)):
        yield Result("all curves, in a library", by, total, read(directory / by.lower()), "s")


def _read_columns(directory: Path) -> float:
    began = time.perf_counter()
    reader = Reader(directory)
    for key in (*KEYS, *METRICS):
        reader.column(key, max_points=1000)
    return time.perf_counter() - began


def _read_events(directory: Path) -> float:
    import tensorboard_logs

    return tensorboard_logs.read(directory)


def measure_runs(directory: Path, options: argparse.Namespace) -> Iterator[Result]:
    """Runs of several lengths: their size, how soon their first view is there, and ticks while they go on."""
    import pages

    for steps in options.lengths:
        began = time.perf_counter()
        lay_down(directory / f"{steps}" / "run", steps)
        print(f"{steps:,} steps laid down in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        size = sum(file.stat().st_size for file in (directory / f"{steps}" / "run").iterdir())
        yield Result("size of a whole run", COCKPIT, steps, size / steps / len(KEYS + METRICS), "bytes/point")
    with pages.chromium() as browser:
        found: dict[int, list[tuple[float, float, int]]] = {steps: [] for steps in options.lengths}
        for _ in range(options.repeat):
            for steps in options.lengths:
                found[steps].append(_first_look(browser, directory / f"{steps}"))
        for steps, looks in found.items():
            paint, server, memory = (statistics.median(each) for each in zip(*looks, strict=True))
            yield Result("first paint", COCKPIT, steps, paint, "s", 1.0)
            yield Result("first answer", COCKPIT, steps, server, "s")
            yield Result("server memory", COCKPIT, steps, memory / 2**20, "MiB")
        for steps in options.lengths:
            wall, cpu, memory = _live(browser, directory / f"{steps}", steps, options.watch)
            yield Result("live tick", COCKPIT, steps, 1e3 * wall, "ms", 50.0)
            yield Result("live tick, processor", COCKPIT, steps, 1e3 * cpu, "ms")
            yield Result("server memory, live", COCKPIT, steps, memory / 2**20, "MiB")


def _first_look(browser: object, logdir: Path) -> tuple[float, float, int]:
    """Seconds to the first paint, those of them that the server took, and its memory then."""
    import pages

    with pages.dashboard(logdir) as server, pages.page_of(browser) as page:
        seconds = pages.paint(page, server.url)
        answers, memory = server.told()
        return seconds, max(answer["seconds"] for answer in answers), memory


def _live(browser: object, logdir: Path, steps: int, watch: float) -> tuple[float, float, int]:
    """Seconds and processor time of the ticks while the run goes on, and the server's memory after them."""
    import pages

    with pages.dashboard(logdir) as server, pages.page_of(browser) as page, pages.going_on(logdir / "run", steps):
        page.wait_for_timeout(2000)
        pages.paint(page, server.url)
        page.wait_for_timeout(2000)
        server.told()
        page.wait_for_timeout(1000 * watch)
        ticks, memory = server.told()
        return *(statistics.median(tick[of] for tick in ticks) for of in ("seconds", "cpu")), memory


def measure_peer(directory: Path, options: argparse.Namespace) -> Iterator[Result]:
    """TensorBoard's server on logs of the same runs."""
    import tensorboard_logs

    for steps in (steps for steps in options.lengths if steps <= options.peer_longest):
        log = tensorboard_logs.Log(directory / f"tensorboard-{steps}")
        for first in range(0, steps, 1000):
            some = stretch(first, min(1000, steps - first))
            for at in range(len(some.steps)):
                log.put_together(some, at)
        log.close()
        yield Result("size of a whole run", TENSORBOARD, steps, log.size() / steps / len(KEYS + METRICS), "bytes/point")
        with tensorboard_logs.serving(log.directory) as (url, process):
            server = tensorboard_logs.Server(url, process, steps - 1, options.patience)
        yield Result("loaded by the server", TENSORBOARD, steps, server.loading, "s")
        yield Result("all curves, from the server", TENSORBOARD, steps, server.answering, "s")
        yield Result("server memory", TENSORBOARD, steps, server.memory / 2**20, "MiB")


def table(results: Sequence[Result]) -> str:
    """The figures as text."""
    rows = [["", "whose", "steps", "", "", "goal"]]
    for each in sorted(results, key=lambda each: [other.what for other in results].index(each.what)):
        goal = "" if each.goal is None else f"< {each.goal:g}{'' if each.value < each.goal else '  missed'}"
        rows.append([each.what, each.by, f"{each.steps:,}", f"{each.value:,.4g}", each.unit, goal])
    return aligned(rows, "<<>><<")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="steps that are written as fast as it goes")
    parser.add_argument("--paced", type=int, default=1000, help="steps that are written at a training's pace")
    lengths = [10_000, 100_000, 1_000_000]
    parser.add_argument("--lengths", nargs="*", type=int, default=lengths, help="steps of the runs that are shown")
    parser.add_argument("--peer-longest", type=int, default=100_000, help="of those that TensorBoard is given as well")
    parser.add_argument("--repeat", type=int, default=3, help="first looks at each run")
    parser.add_argument("--watch", type=float, default=10.0, help="seconds that a live run is watched")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds that TensorBoard may load")
    parser.add_argument("--logs", type=Path, help="where logs are written (default: a temporary folder)")
    parser.add_argument("--out", type=Path, help="folder for logs.csv and the figure")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, TensorBoard {tensorboard_version}, ", end="")
    print(f"{os.cpu_count()} CPUs; {len(KEYS + METRICS)} numbers a step")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=options.logs) as directory:
        for section in (measure_writing, measure_peer, measure_runs) if options.lengths else (measure_writing,):
            for result in section(Path(directory), options):
                results.append(result)
                print(f"{result.what}, {result.by}, {result.steps:,}: {result.value:.4g}", file=sys.stderr, flush=True)
                if options.out:  # whatever was measured stays, if somebody stops a long run
                    options.out.mkdir(parents=True, exist_ok=True)
                    write_csv(options.out / "logs.csv", results)
    print(table(results))
    if options.out:
        draw(options.out / "logs.csv", options.out)


if __name__ == "__main__":
    main()
