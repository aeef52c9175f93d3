"""What has happened in a run: all of it, what went wrong, and as much as an axis has room for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cockpit.store import Event, Reader

ALARMS = ("warning", "error")
REMARK = "info"
MOST_TICKS = 300  # of a kind: an axis has room for fewer


@dataclass
class _Ticks:
    """Events of one kind that have a step, at even distances where they are very many."""

    kept: list[Event] = field(default_factory=list)
    stride: int = 1
    count: int = 0

    def add(self, event: Event) -> None:
        if self.count % self.stride == 0:
            self.kept.append(event)
        self.count += 1
        if len(self.kept) > MOST_TICKS:
            del self.kept[1::2]
            self.stride *= 2


class Events:
    """The events of a run and its processes, each taken once.

    Attributes:
        all: In the order in which they are heard of.
        alarms: Those of them that are errors or warnings.
        remarks: The last remark about each subject: for an instrument, why its readings are missing.
    """

    def __init__(self) -> None:
        self.all: list[Event] = []
        self.alarms: list[Event] = []
        self.remarks: dict[str, str] = {}
        self._ticks: dict[str, _Ticks] = {}
        self._heard: dict[int, int] = {}  # of each process the last event

    @property
    def ticks(self) -> list[Event]:
        """Those with a step; of a kind that has very many a selection, at even distances."""
        return [event for of_kind in self._ticks.values() for event in of_kind.kept]

    def listen(self, process: Reader, *, own: bool) -> None:
        """Take what one of the run's processes has said since; what is not the run's ``own`` one gets its number."""
        number = process.number
        told = process.events(since=self._heard.get(number, 0))
        if told:
            self._heard[number] = told[-1].id
        for event in told:
            self.add(event if own else replace(event, text=f"rank {event.rank}: {event.text}"))

    def add(self, event: Event) -> None:
        """Take one event."""
        self.all.append(event)
        if event.kind in ALARMS:
            self.alarms.append(event)
        elif event.kind == REMARK and event.subject:
            self.remarks[event.subject] = event.text
        if event.step is not None:
            self._ticks.setdefault(event.kind, _Ticks()).add(event)
