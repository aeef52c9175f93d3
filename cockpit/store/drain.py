"""The thread that moves what training handed over into the file, and keeps trying when it cannot."""

from __future__ import annotations

import threading
import time

from cockpit.store.batch import Batch
from cockpit.store.claim import Claim
from cockpit.store.encoder import Encoder
from cockpit.store.inbox import Inbox
from cockpit.store.log import Log, TakenOver, report

_BATCH = 1_000  # items in one transaction
_HEARTBEAT = 1.0
_PIECES = 4  # of what is kept, between two pauses: the disk is training's, too
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # between writes, or attempts to write
_FINAL_PATIENCE = 5.0  # how long a closing run keeps trying


class Drain(threading.Thread):
    """Writes until told to stop. Sleeps between writes; an empty inbox costs one heartbeat a second.

    Args:
        inbox: What to write.
        claim: The file.
        encoder: Continues where the file ends.
        interval: Seconds from the beginning of one write to that of the next.

    Attributes:
        seconds: Processor time that the thread has used so far, without making the pieces of what is kept once.
    """

    seconds = 0.0
    _once = 0.0

    def __init__(self, inbox: Inbox, claim: Claim, encoder: Encoder, interval: float) -> None:
        super().__init__(name="cockpit-writer", daemon=True)
        self._inbox, self._claim, self._encoder, self._interval = inbox, claim, encoder, interval
        self._final_state: str | None = None
        self._deadline = float("inf")
        self._batch: Batch | None = None
        self._beaten = time.monotonic()
        self._failing_since: float | None = None
        self._dropped_said = False

    def stop(self, state: str) -> None:
        """Writes what is left, then how the run ended, then ends. The first call counts."""
        if self._final_state is None:
            self._deadline = time.monotonic() + _FINAL_PATIENCE
            self._final_state = state
            self._inbox.wake.set()

    def run(self) -> None:
        """Until stopped, or another writer takes the run."""
        # Seen by nobody else: a forked child, where this thread is not, can neither use the connection nor close it.
        log = self._claim.log()
        pause = self._interval
        while True:
            self._inbox.wake.wait(pause)
            self._inbox.wake.clear()
            began = time.monotonic()
            final_state = self._final_state
            try:
                self._empty(log)
                self.seconds = time.thread_time() - self._once
                if final_state is not None:
                    log.finish(final_state, self._encoder.cursor + 1, self._inbox.dropped)
                    return
                pause = self._until_next(time.monotonic() - began)
            except TakenOver as error:
                report(str(error))
                self._inbox.disabled = True  # from now on nobody who closes waits for this thread
                return
            except Exception as error:  # disk full, directory gone, file locked or damaged: training goes on
                log.disconnect()
                self._troubled(error)
                if time.monotonic() > self._deadline:
                    report(f"{len(self._inbox)} items were lost: {self._claim.database.place} could not be written")
                    return
                longer = min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, 2 * pause))
                pause = longer if final_state is None else _SHORTEST_PAUSE

    def _until_next(self, taken: float) -> float:
        """Seconds to wait after a write that took so many: what a killed process loses must not grow with them."""
        return max(self._interval - taken, min(self._interval, _SHORTEST_PAUSE))

    def _empty(self, log: Log) -> None:
        pieces = _PIECES
        while self._batch is not None or self._anything(pieces):
            if self._batch is None:
                self._batch = self._encoded()
                pieces -= len(self._batch.pieces)
            try:
                remainder = log.commit(self._batch, self._inbox.dropped)
            except TakenOver:
                raise
            except Exception as error:  # rows that the database will never take: the others must not wait for ever
                if self._claim.database.may_pass(error):
                    raise
                log.disconnect()
                self._encoder.lost(self._batch)
                self._inbox.lost()
                report(f"readings were lost: {self._claim.database.place} does not take them ({error!r})")
            else:
                if remainder is not None:
                    self._encoder.seen(*remainder)
                self._inbox.written()
            self._batch, self._beaten = None, time.monotonic()
            self._recovered()

    def _anything(self, pieces: int) -> bool:
        keeping = self._inbox.keeping and (pieces > 0 or self._final_state is not None)
        return bool(len(self._inbox)) or keeping or time.monotonic() - self._beaten > _HEARTBEAT

    def _encoded(self) -> Batch:
        for write, arguments, _ in self._inbox.take(_BATCH):
            try:
                write(self._encoder, *arguments)
            except Exception as error:  # one bad item must not take the others with it
                self._say("error", f"something handed to the log cannot be stored: {error!r}")
            time.sleep(0)  # lets go of the interpreter: training would else wait its whole switch interval, 5 ms
        if self._inbox.dropped and not self._dropped_said:
            self._dropped_said = True
            words = (
                f"readings come faster than {self._claim.database.place} can be written: some are dropped, and counted"
            )
            self._say("warning", words)
            report(words)
        self._keep()
        return self._encoder.take()

    def _keep(self) -> None:
        began = time.thread_time()
        try:
            piece = self._inbox.piece()
        except Exception as error:
            self._say("error", f"what was to be kept with the run cannot be: {error!r}")
        else:
            if piece is not None:
                self._encoder.piece(*piece)
        self._once += time.thread_time() - began

    def _troubled(self, error: Exception) -> None:
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            log = self._claim.database
            words = f"the log {log.place} cannot be written ({log.reason(error)})"
            report(f"{words}. Training goes on; writing is tried again.")

    def _recovered(self) -> None:
        if self._failing_since is not None:
            seconds = time.monotonic() - self._failing_since
            self._failing_since = None
            self._say(
                "warning", f"the log could not be written for {seconds:.0f} s; dropped so far: {self._inbox.dropped}"
            )

    def _say(self, kind: str, words: str) -> None:
        self._encoder.event(None, self._encoder.elapsed, kind, words, "")
