"""The static screen: a run's panels as a picture for paper, drawn from its log alone. Knows no instrument, no torch."""

from cockpit.plotter.plotter import CockpitPlotter as CockpitPlotter
from cockpit.plotter.plotter import write as write
