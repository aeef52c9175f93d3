"""From what a backward pass brought to one parameter's individual gradients: by which route they are to be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.hooks.calls import UNCALLED, ModuleCall, calls_of
from cockpit.capture.individual.combined import added
from cockpit.capture.individual.forms import form_of
from cockpit.capture.individual.generic import VectorisedGradients
from cockpit.capture.individual.gradients import SampleGradients, Zeros
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.walk.graph_walk import GraphWalk
from cockpit.parameters import Parameter, working

Source: TypeAlias = Callable[[Parameter, Sequence[ModuleCall], int], SampleGradients]
"""Parameter, calls that the backward pass walked through, batch size -> individual gradients."""

TWICE = "the same graph was walked backwards twice in one step"


def individual_gradients(
    index: int, parameter: Parameter, backward: BackwardPass, walk: GraphWalk, source: Source
) -> SampleGradients:
    """Individual gradients of a parameter: by closed forms for calls of its modules, or where the graph uses it, or by
    calling its modules again.

    Args:
        index: Its place in the table.
        parameter: The parameter.
        backward: The pass in which its gradient has just arrived.
        walk: What arrived elsewhere in the graph.
        source: Makes individual gradients of a parameter's module calls.

    Raises:
        Unavailable: If no route leads there.
    """
    if walk.twice:
        backward.problem = TWICE
    backward.factors()
    assert backward.arrangement is not None
    samples = backward.arrangement.samples
    if not (walk.serves(index) and walk.first(index)):
        try:
            return source(parameter, backward.walked, samples)
        except Unavailable:
            if not walk.serves(index):
                raise
    gradients = walk.gradients(index, samples)
    backward.dtypes |= walk.dtypes
    gradients.route = "graph"
    return gradients


def sample_gradients(parameter: Parameter, walked: Sequence[ModuleCall], samples: int) -> SampleGradients:
    """Individual gradients of a parameter, from all calls of all modules that hold it.

    Args:
        parameter: The parameter.
        walked: Calls whose output gradient arrived in this backward pass.
        samples: Batch size ``N``.

    Raises:
        Unavailable: If one of the calls has no form, or its batch axis is unknown.
    """
    if parameter.tensor.is_complex():
        raise Unavailable("complex parameters have no individual gradients here")
    calls = calls_of(parameter, walked)
    if not calls:
        raise Unavailable(UNCALLED)
    found = [_from_call(call, attribute, samples) for call, attribute in calls]
    parts = [part for part in found if part is not None]
    if not parts:
        return Zeros(samples, working(parameter.tensor.detach()))
    gradients = added(parts)
    if any(isinstance(part, VectorisedGradients) for part in parts):
        gradients.route = "vmap"
    return gradients


def _from_call(call: ModuleCall, attribute: str, samples: int) -> SampleGradients | None:
    """One call's contribution; ``None`` if no gradient came back to it."""
    assert call.delta is not None
    if call.axis is None:
        if not bool(call.delta.any()):
            return None
        raise Unavailable(
            f"'{call.name}' ({type(call.module).__name__}): {call.problem or 'its batch axis is unknown'}"
        )
    if call.several_outputs:
        raise Unavailable(f"'{call.name}' returns several tensors")
    form = form_of(call.module, attribute)
    if form is None:
        return VectorisedGradients(call, call.delta, attribute, samples)
    return form(call, working(call.delta), attribute, samples)
