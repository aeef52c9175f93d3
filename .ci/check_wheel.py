"""Fail unless a wheel holds every file of the packages: one left out of the list in pyproject.toml goes unnoticed."""

import os
import sys
from pathlib import Path
from zipfile import ZipFile

FOLDERS = {"cockpit": "cockpit", "instruments": "cockpit/instruments", "dashboard": "cockpit/dashboard"}


def expected(checkout: Path) -> set[str]:
    """Paths inside the wheel of all files below the packages' folders."""
    return {
        (Path(package) / Path(folder, file).relative_to(checkout / top)).as_posix()
        for top, package in FOLDERS.items()
        for folder, _, files in os.walk(checkout / top)  # the links inside cockpit/ are not followed
        for file in files
        if Path(folder).name != "__pycache__"
    }


def main(checkout: str, wheel: str) -> None:
    """Compare, and say what is missing."""
    with ZipFile(wheel) as archive:
        there = set(archive.namelist())
    missing = expected(Path(checkout)) - there
    if missing:
        sys.exit(f"{Path(wheel).name} lacks " + ", ".join(sorted(missing)))
    print(f"{Path(wheel).name} holds all {len(expected(Path(checkout)))} files of the packages")


if __name__ == "__main__":
    main(*sys.argv[1:])
