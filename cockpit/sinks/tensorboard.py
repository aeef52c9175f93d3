"""Runs in TensorBoard: a directory of event files for each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cockpit.reading import Histogram
from cockpit.run import Run
from cockpit.sinks.describing import description_of, flat, line_of
from cockpit.sinks.progress import Progress
from cockpit.sinks.rows import Row, rows_of
from cockpit.sinks.sink import Sink
from cockpit.store import Portion

if TYPE_CHECKING:
    from cockpit.sinks.event_file import EventFile

_LONGEST = 60  # characters of a directory's name: file systems count bytes
_NOT_IN_NAMES = re.compile(r'[\\:*?"<>|]|[^\w -~]')


class TensorBoard(Sink):
    """Runs as event files that TensorBoard reads: ``tensorboard --logdir logs``.

    Needs the extra ``tensorboard``. A run goes into a directory of its name below ``logdir``, with a suffix where that
    holds something else. Where the run, or what was written of it, is already there, only the rest is added.

    Numbers keep single precision, as always in TensorBoard; histograms are exact. Layer-wise values have the tag
    ``quantity/layer``. Events are the text ``events``, the configuration is the text ``configuration`` and the
    hyperparameters of its tab.

    Args:
        logdir: TensorBoard's directory.

    Raises:
        ImportError: Without the package.
    """

    package = "tensorboard"

    def __init__(self, logdir: str | Path) -> None:
        self.require()
        self.logdir = Path(logdir).expanduser().absolute()  # the training script may change its directory
        self.title = f"TensorBoard's directory {self.logdir}"

    def begin(self, run: Run, live: bool) -> int:
        """See :meth:`Sink.begin`."""
        import cockpit.sinks.event_file  # noqa: F401  what it needs may be broken: better now than with the first step

        self._run, self._live = run, live
        self._directory, self._progress = self._place(run.name, run.header.created)
        self._progress.require_free(self._directory)
        self._file: EventFile | None = None
        self._tags: dict[str, type] = {}
        series = run.reader.series() if self._progress.cursor else ()
        self._step, self._said = max((entry.last_step for entry in series), default=0), list[str]()
        return self._progress.cursor

    def write(self, portion: Portion) -> int:
        """See :meth:`Sink.write`."""
        if self._file is not None and not self._file.is_there():
            self._file.close()
            return self.begin(self._run, self._live)  # somebody has deleted it: all is written again
        before = self._progress
        masked = [pair for pair in portion.overtaken if pair not in before.overtaken] if before.cursor else []
        first = min((step for _, step in masked), default=None)
        # An attempt that turns out to begin earlier is written again from its beginning.
        back = min([portion.cursor, *(cursor for cursor, _ in masked if cursor < before.cursor)])
        rows = rows_of(portion) if back == portion.cursor else []
        if not rows and first is None:
            return portion.cursor
        file = self._opened()
        size, texts = file.size, (self._step, self._said)
        try:
            file.append(self._events(rows, first))
            self._progress = Progress(before.created, back, portion.overtaken, file.path.name, file.size).held()
            self._progress.write(self._directory)
        except Exception:
            file.cut(size)
            self._progress, (self._step, self._said) = before, texts
            raise
        return back

    def end(self, state: str) -> None:
        """See :meth:`Sink.end`."""
        if self._file is not None:
            self._file.close()
            self._progress.released().write(self._directory)

    def _place(self, name: str, created: float) -> tuple[Path, Progress]:
        """The run's directory: the one where it is, or the first that holds nothing of TensorBoard's."""
        wanted = self.logdir.joinpath(*_parts(name))
        directory, attempt = wanted, 1
        while True:
            progress = Progress.read(directory)
            if progress is not None and progress.created == created:
                return directory, progress
            if progress is None and not any(directory.glob("events.out.tfevents.*")):
                return directory, Progress(created)
            attempt += 1
            directory = wanted.with_name(f"{wanted.name}-{attempt}")

    def _opened(self) -> EventFile:
        from cockpit.sinks.event_file import EventFile

        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._progress.cut(self._directory)
            self._file = EventFile(self._directory)
            self._file.append(self._beginning())
        return self._file

    def _beginning(self) -> Iterator[Any]:
        """What is told of the run itself."""
        from cockpit.sinks import event_file

        began = self._run.header.created
        lines = json.dumps(description_of(self._run), indent=2, ensure_ascii=False).splitlines()
        yield event_file.summary(
            began, 0, [event_file.text("configuration", "\n".join(f"    {line}" for line in lines))]
        )
        if settings := flat(self._run.config):
            yield event_file.hyperparameters(began, settings)

    def _events(self, rows: list[Row], first: int | None) -> Iterator[Any]:
        from cockpit.sinks import event_file

        began = self._run.header.created
        if first is not None:
            self._step, self._said = first, []
            yield event_file.restart(began + (rows[0].time if rows else 0), first)
        for row in rows:
            values = [self._value(name, value) for name, value in row.values.items()]
            if values and row.step is not None:
                yield event_file.summary(began + row.time, row.step, values)
            if row.events:
                yield self._text(row)

    def _value(self, name: str, value: float | Histogram) -> Any:
        from cockpit.sinks import event_file

        kind = type(value)
        tag = name if self._tags.get(name, kind) is kind else f"{name} ({kind.__name__.lower()})"  # of one kind each
        self._tags[tag] = kind
        return event_file.histogram(tag, value) if isinstance(value, Histogram) else event_file.number(tag, value)

    def _text(self, row: Row) -> Any:
        """Words of one step: TensorBoard shows the last text of each, so all that has been said there is said again."""
        from cockpit.sinks import event_file

        if row.step is not None and row.step > self._step:
            self._step, self._said = row.step, []
        self._said = [*self._said, *map(line_of, row.events)]
        words = "\n\n".join(self._said)
        return event_file.summary(self._run.header.created + row.time, self._step, [event_file.text("events", words)])


def _parts(name: str) -> list[str]:
    """A run's name as names of directories, none of which leads elsewhere."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".", "..")]
    return [_NOT_IN_NAMES.sub("_", part[:_LONGEST]) for part in parts] or ["run"]
