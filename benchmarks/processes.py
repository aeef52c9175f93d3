"""Training loops in processes of their own, each in the environment of its interpreter."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path

from loops import Job

HERE = Path(__file__).parent


def environment_of(kind: str) -> dict[str, str]:
    """Variables for a loop's process: what leads Python to Cockpit would hide the peer, which has its name."""
    return {name: value for name, value in os.environ.items() if kind != "peer" or name != "PYTHONPATH"}


class Worker:
    """A training loop in another process.

    Args:
        kind: ``plain``, ``cockpit`` or ``peer``.
        job: What it trains.
        python: The interpreter of its environment.
        threads: Of torch; its own choice if ``None``.

    Raises:
        RuntimeError: If the process ends, with what it said.
    """

    def __init__(self, kind: str, job: Job, python: str, threads: int | None) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        environment = environment_of(kind)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [python, HERE / "worker.py", kind, json.dumps(dataclasses.asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self.threads = int(self._answer()["threads"])
        self.peak = 0

    def seconds(self, steps: int, periods: int = 1, *, tracked: bool = True) -> float:
        """Trains some tracking periods, one after the other; seconds for all steps of one.

        Args:
            steps: Of a period, or of a piece of one.
            periods: How many.
            tracked: Whether the first step of each is tracked; it is not in the later pieces of a period.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{periods} {steps} {tracked:d}\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.peak = int(answer["peak"])
        return answer["seconds"] / periods

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-2000:]
            self.close()
            raise RuntimeError(f"a training loop ended early:\n{said}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(600)
        self._process.stdout.close()
        self._errors.close()
