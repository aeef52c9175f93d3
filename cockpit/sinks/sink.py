"""What a sink has to do: take a run's log, portion by portion, into another tool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import ClassVar

from cockpit.run import Run
from cockpit.store import Portion


class Sink(ABC):
    """Another tool that is given what the log is given.

    After :meth:`prepare` its methods are called one after the other, on one thread of their own. Whatever they raise is
    reported, and the same call is made again later.

    Attributes:
        title: What to call it.
        package: The package that it needs, which is the name of the extra, too.
    """

    title: str
    package: ClassVar[str]

    def require(self) -> None:
        """Looks whether the package is there, without importing it.

        Raises:
            ImportError: If not; names the extra.
        """
        if find_spec(self.package) is None:
            raise ImportError(
                f"{type(self).__name__} needs the package {self.package}: "
                f"`pip install 'cockpit-debugger[{self.package}]'`"
            )

    def prepare(self) -> None:  # noqa: B027  most have nothing to do
        """Does what belongs on the thread of the script, before training: looks for what is there, asks the user."""

    @abstractmethod
    def begin(self, run: Run, live: bool) -> int:
        """Opens the place where the run goes.

        Args:
            run: The run.
            live: Whether it is being written by this process, rather than exported.

        Returns:
            A cursor: what comes after it is wanted.
        """

    @abstractmethod
    def write(self, portion: Portion) -> int:
        """Takes a portion in, all of it or nothing.

        Returns:
            The portion's cursor; or an earlier one, if what came after that is wanted again.
        """

    @abstractmethod
    def end(self, state: str) -> None:
        """Closes the place: nothing more will come.

        Args:
            state: How the run ended, or ``running``.
        """
