"""One training loop in a process of its own, advanced by commands: ``python worker.py KIND '{"problem": …}'``.

Reads three numbers per line from standard input: tracking periods, the steps of each, and whether (1 or 0) the first of
these is tracked. It answers with a line of JSON: seconds for all of them and the process's peak memory so far, in
bytes. An empty line or the end of the input ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import IO

import torch
from loops import LOOPS, Advance, Job


def main() -> None:
    kind, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    # The libraries print; what the driver reads is kept apart from that.
    answers = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr), LOOPS[kind](job) as advance:
        print(json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__}), file=answers, flush=True)
        serve(sys.stdin, answers, advance, job.device)


def serve(commands: IO[str], answers: IO[str], advance: Advance, device: str) -> None:
    """Advances the loop as long as somebody asks for it."""
    for line in commands:
        if not line.strip():
            return
        periods, steps, tracked = map(int, line.split())
        wait(device)
        began = perf_counter()
        for _ in range(periods):
            advance(steps, tracked=bool(tracked))
        wait(device)
        seconds = perf_counter() - began
        print(json.dumps({"seconds": seconds, "peak": peak(device)}), file=answers, flush=True)


def wait(device: str) -> None:
    """Until the accelerator has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak(device: str) -> int:
    """Peak memory in bytes: resident set of the process, or what was allocated on the accelerator."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The maximum that getrusage tells begins with the parent's, as the process was forked from it.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


if __name__ == "__main__":
    main()
    os._exit(0)  # all is answered and closed; for Python to take torch apart as well lasts a second
