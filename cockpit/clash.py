"""Other distributions that bring a package called ``cockpit``: found when a session is imported, and explained."""

from __future__ import annotations

import warnings
from importlib import metadata
from pathlib import Path

from cockpit.tracking.notices import CockpitWarning

OTHERS = {
    "cockpit": "an unrelated package",
    "cockpit-for-pytorch": "the ancestor of this one, github.com/f-dangel/cockpit",
}
"""Distributions on the package index with the same import name."""


def check_for_clash(here: Path = Path(__file__).parent) -> None:
    """Looks for the distributions in :data:`OTHERS`, by name alone: reading every installed file list would take long.

    Args:
        here: Folder of this package.

    Raises:
        ImportError: If one of them is installed into the same folder: each has overwritten files of the other.
    """
    for name, what in OTHERS.items():
        try:
            other = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        theirs = Path(str(other.locate_file("cockpit")))
        if not (theirs / "__init__.py").is_file():
            continue
        if theirs.resolve() == here.resolve():
            raise ImportError(
                f"the distribution '{name}' ({what}) is installed over this package, in {here}: both are imported as "
                f"'cockpit', and each has replaced files of the other. Keep one: pip uninstall -y {name} "
                "cockpit-debugger && pip install cockpit-debugger"
            )
        warnings.warn(
            f"the distribution '{name}' ({what}) in {theirs.parent} is imported as 'cockpit', too. The order of "
            f"sys.path decides between them; here it found Cockpit in {here}. To keep this one: pip uninstall {name}",
            CockpitWarning,
            stacklevel=2,
        )
