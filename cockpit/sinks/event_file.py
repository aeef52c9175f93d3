"""TensorBoard's event files: what is in them, and how it gets there. Needs the extra ``tensorboard``."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.histogram.metadata import create_summary_metadata as histogram_metadata
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.metadata import create_summary_metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from cockpit.reading import Histogram

_HISTOGRAM, _TEXT = histogram_metadata(None, None), text_metadata(None, None)
_NAME = "events.out.tfevents."


class EventFile:
    """A file that grows by whole records, or stays as it is.

    The package's own writer hands records to a thread of its own, which keeps what goes wrong to itself for a while.

    Args:
        directory: Where; it exists.

    Attributes:
        path: The file.
        size: Bytes in it.
    """

    def __init__(self, directory: Path) -> None:
        # Files are read in the order of their names: none has an earlier second than one before it, nor the same.
        seconds = [int(path.name[len(_NAME) :].split(".")[0]) for path in directory.glob(f"{_NAME}[0-9]*")]
        number = max([int(time.time()), *(1 + second for second in seconds)])
        self.path = directory / f"{_NAME}{number:010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = self.path.open("xb", buffering=0)  # nothing waits in a buffer for a forked child to write it twice
        self._identity = _identity(os.fstat(self._file.fileno()))
        self.size = 0
        self.append([event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")])

    def is_there(self) -> bool:
        """Whether the file is still under its name: a deleted one can be written without an error."""
        try:
            return _identity(self.path.stat()) == self._identity
        except OSError:
            return False

    def append(self, events: Iterable[Any]) -> None:
        """Adds events, all or none.

        Raises:
            OSError: If they cannot be written.
        """
        buffer = io.BytesIO()
        records = RecordWriter(buffer)
        for event in events:
            records.write(event.SerializeToString())
            time.sleep(0)  # lets go of the interpreter, which training waits for
        rest = buffer.getbuffer()
        end = self.size + len(rest)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self.cut(self.size)
            raise
        self.size = end

    def cut(self, size: int) -> None:
        """Takes back what was added since the file had this size."""
        with suppress(OSError):  # then readers skip a record that ends too early
            self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def close(self) -> None:
        """Leaves it."""
        self._file.close()


def summary(wall_time: float, step: int, values: Iterable[Any]) -> Any:
    """An event with values of one step."""
    return event_pb2.Event(wall_time=wall_time, step=step, summary=summary_pb2.Summary(value=values))


def restart(wall_time: float, step: int) -> Any:
    """An event that takes back all values before it at this step and later ones."""
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    return event_pb2.Event(wall_time=wall_time, step=step, session_log=start)


def hyperparameters(wall_time: float, values: Mapping[str, bool | float | str]) -> Any:
    """An event that tells of a run's hyperparameters."""
    return event_pb2.Event(wall_time=wall_time, summary=hparams_pb(values, start_time_secs=wall_time))


def number(tag: str, value: float) -> Any:
    """A number. TensorBoard keeps single precision."""
    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def histogram(tag: str, value: Histogram) -> Any:
    """A histogram, each bin with its edges and count; empty bins at either end are left out, as TensorBoard does."""
    filled = np.flatnonzero(value.counts)
    within = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0)  # of each byte a checksum is made in Python
    bins = np.stack([value.edges[:-1], value.edges[1:], value.counts], axis=1)[within].astype("<f8")
    shape = tensor_shape_pb2.TensorShapeProto(
        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in bins.shape]
    )
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_DOUBLE, tensor_shape=shape, tensor_content=bins.tobytes())
    return summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=_HISTOGRAM)


def text(tag: str, words: str) -> Any:
    """Words, which are shown as Markdown."""
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, tensor_shape=tensor_shape_pb2.TensorShapeProto(), string_val=[words.encode()]
    )
    return summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=_TEXT)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
