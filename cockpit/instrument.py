"""What an instrument is, and where all of them are found.

An instrument is one file: a pure function that is the mathematics, and a thin class that says what it needs and how it
is drawn.
"""

from __future__ import annotations

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

from cockpit.layers import Combine
from cockpit.panel import Panel
from cockpit.probes.probe import Probe, default
from cockpit.reading import Reading, Value
from cockpit.schedule import Auto, Schedule, as_schedule
from cockpit.step import Step

Configuration: TypeAlias = Literal["economy", "business", "full"]
T = TypeVar("T")
CONFIGURATIONS: tuple[Configuration, ...] = ("economy", "business", "full")


class Instrument(ABC):
    """Base of all instruments.

    A subclass names its log key, the probes it needs, how many consecutive steps it looks at, its panel, and computes a
    value from steps that are over. It is given numbers on the host and may take its time, but not hold on to steps.

    Args:
        track: When it is read; as the cockpit's own argument, which holds if not given.

    Raises:
        TypeError: If ``track`` is no schedule.
    """

    name: ClassVar[str]
    """Log key: lower case, with underscores."""

    needs: tuple[type[Probe[Any]] | Probe[Any], ...] = ()
    """Probes collected while the step is open; a class stands for its default settings."""

    window: ClassVar[int] = 1
    """How many consecutive steps :meth:`compute` sees. The reading is logged under the first of them."""

    configuration: ClassVar[Configuration | None] = None
    """The smallest configuration it belongs to; ``None``: it is opted for by name."""

    combine: ClassVar[Mapping[str, Combine]] = {}
    """How values of several layers make one: ``norm`` for norms, ``sum`` for sums; by part, ``""`` is the value itself.
    What is not named here has a median."""

    panel: Panel | None = None
    """How it is drawn; ``None`` where another panel draws its key."""

    schedule: Schedule | Auto | None = None
    """When it is read; ``None``: when the cockpit says."""

    settings: Mapping[str, Any] = {}
    """What it was made with: its arguments and their defaults, all but ``track``."""

    def __new__(cls: type[T], *args: Any, **kwargs: Any) -> T:
        """Remembers the arguments, so that the log can say what an instrument was set to."""
        instrument: T = super().__new__(cls)  # type: ignore[misc]
        instrument.settings = _arguments(cls, args, kwargs)  # type: ignore[attr-defined]
        return instrument

    def __init__(self, *, track: int | Literal["auto"] | Schedule | None = None) -> None:
        self.schedule = None if track is None else as_schedule(track)

    @abstractmethod
    def compute(self, steps: Sequence[Step]) -> Value | Reading:
        """The reading at the first of ``window`` consecutive steps.

        Args:
            steps: As many consecutive steps as :attr:`window` says, oldest first.

        Returns:
            The value: a number, a histogram, ``None`` where it is undefined; or a :class:`~cockpit.reading.Reading`
            with layers and parts.

        Raises:
            Unavailable: Passed on from a step; it is logged as missing, with its reason.
        """

    def probes(self) -> tuple[Probe[Any], ...]:
        """The probes of :attr:`needs`, as objects."""
        return tuple(default(probe) if isinstance(probe, type) else probe for probe in self.needs)


def _arguments(cls: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name; those that do not fit are left to the class to refuse."""
    _, *own = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    taken = inspect.Signature([parameter for parameter in own if parameter.kind not in several])
    try:
        bound = taken.bind_partial(*args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name != "track"}


I = TypeVar("I", bound=type[Instrument])
_REGISTRY: dict[str, type[Instrument]] = {}


def register(cls: I) -> I:
    """Class decorator: makes an instrument available by name.

    Raises:
        ValueError: If another instrument has the name.
    """
    known = _REGISTRY.get(cls.name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"there is already an instrument called {cls.name!r}: {known.__module__}.{known.__qualname__}")
    _REGISTRY[cls.name] = cls
    return cls


def registered() -> dict[str, type[Instrument]]:
    """All instruments by name, those that come with Cockpit and those that were registered since."""
    import cockpit.instruments  # noqa: F401 - importing it registers them

    return dict(sorted(_REGISTRY.items()))


def configured(configuration: Configuration) -> list[type[Instrument]]:
    """Instruments of a configuration; each contains the smaller ones."""
    within = CONFIGURATIONS[: CONFIGURATIONS.index(configuration) + 1]
    return [cls for cls in registered().values() if cls.configuration in within]


Wanted: TypeAlias = "str | Instrument | type[Instrument]"


def resolve(instruments: Wanted | Iterable[Wanted]) -> list[Instrument]:
    """What a user may write for ``instruments=``, as objects.

    Args:
        instruments: Names of configurations and instruments joined by ``+``, a class, an object, or a list of these.

    Raises:
        ValueError: For an unknown name (the nearest one is suggested), an empty list, or one name twice.
        TypeError: For anything that is no instrument.
    """
    several = isinstance(instruments, Iterable) and not isinstance(instruments, str)
    by_name: dict[str, Instrument] = {}
    given: dict[str, Instrument] = {}
    for item in instruments if several else [instruments]:  # type: ignore[union-attr]
        for instrument in _expand(item):
            if isinstance(item, str):
                by_name[instrument.name] = instrument
            elif instrument.name in given:
                raise ValueError(f"the instrument {instrument.name!r} is listed twice; a log has one of each")
            else:
                given[instrument.name] = instrument
    if not by_name and not given:
        raise ValueError(f"no instruments: name some, or use enabled=False. There are: {', '.join(_known_names())}")
    # An object stands for itself: ["economy", GradHist1d(bins=50)] is economy with that histogram.
    return list({**by_name, **given}.values())


def _expand(item: object) -> list[Instrument]:
    if isinstance(item, Instrument):
        return [_checked(item)]
    if isinstance(item, type) and issubclass(item, Instrument):
        return [_checked(item())]
    if not isinstance(item, str):
        raise TypeError(f"an instrument is a name, a class or an object, got {item!r}")
    return [cls() for name in item.split("+") for cls in _named(name.strip())]


def _checked(instrument: Instrument) -> Instrument:
    """The mistakes that are easily made in a class of one's own."""
    cls = type(instrument).__name__
    name = getattr(instrument, "name", None)
    if not isinstance(name, str) or not name or "+" in name:
        raise TypeError(f"{cls} needs a class attribute 'name', the log key of its readings, got {name!r}")
    if not isinstance(instrument.needs, Sequence):
        raise TypeError(f"{cls}.needs must be a tuple of probes, such as (PerSampleMoments,), got {instrument.needs!r}")
    if not isinstance(instrument.window, int) or instrument.window < 1:
        raise ValueError(f"{cls}.window counts the steps that compute sees, at least 1, got {instrument.window!r}")
    return instrument


def _named(name: str) -> list[type[Instrument]]:
    if name in CONFIGURATIONS:
        return configured(name)
    if name in registered():
        return [registered()[name]]
    raise ValueError(_unknown(name))


def _known_names() -> list[str]:
    return [*CONFIGURATIONS, *registered()]


def _unknown(name: str) -> str:
    names = _known_names()
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return f"no instrument called {name!r}{hint} There are: {', '.join(names)}"
