"""Probes: what an instrument can ask to be collected while a step is open, each computed once however many ask."""

from cockpit.probes.coordinates import Coordinates, CoordinateSums
from cockpit.probes.element_histogram import Counts, ElementHistogram
from cockpit.probes.extreme_eigenvalues import Eigenvalues, ExtremeEigenvalues
from cockpit.probes.gradient_norms import GradientNorms, Norms
from cockpit.probes.movement import DistanceNorms, UpdateNorms, WeightNorms
from cockpit.probes.per_sample_moments import Moments, PerSampleMoments
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings

__all__ = [
    "Collector",
    "CoordinateSums",
    "Coordinates",
    "Counts",
    "DistanceNorms",
    "Eigenvalues",
    "ElementHistogram",
    "ExtremeEigenvalues",
    "GradientNorms",
    "Moments",
    "Norms",
    "PerSampleMoments",
    "Probe",
    "Reduction",
    "Surroundings",
    "UpdateNorms",
    "WeightNorms",
]
