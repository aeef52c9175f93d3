"""Two runs beside each other: settings that differ, and from which step on readings stay apart beyond noise."""
