"""The log of a run: written on a background thread, read live or afterwards. Knows no torch."""

from cockpit.store.attempts import Attempt as Attempt
from cockpit.store.catalog import RunSummary as RunSummary
from cockpit.store.columns import Column as Column
from cockpit.store.entries import Event as Event
from cockpit.store.entries import Series as Series
from cockpit.store.header import Header as Header
from cockpit.store.portion import Portion as Portion
from cockpit.store.reader import Reader as Reader
from cockpit.store.remarks import Annotations as Annotations
from cockpit.store.schema import SCHEMA_VERSION as SCHEMA_VERSION
from cockpit.store.schema import RunExists as RunExists
from cockpit.store.schema import RunIsLive as RunIsLive
from cockpit.store.schema import UnreadableLog as UnreadableLog
from cockpit.store.store import Store as Store
from cockpit.store.writer import Writer as Writer
