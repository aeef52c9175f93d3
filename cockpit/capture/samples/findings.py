"""What single samples' gradients say of where samples are: of each tensor by itself, and of tensors that are alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor

from cockpit.capture.batch_axis import BatchAxis, Finding, find_batch_axis, kept_apart_otherwise, own_axes
from cockpit.capture.samples.single_samples import Hidden
from cockpit.capture.unavailable import Unavailable

_DIFFERENT = "checkpoints with use_reentrant=True call it several times, and samples do not lie in the same places"
_ALONE = "the gradient of a single sample alone reached it, which does not tell where the others are"


def finding_of(cotangents: Sequence[tuple[int, Tensor]], samples: int, enough: int, silence: str | None) -> Finding:
    """What is known of a tensor.

    Args:
        cotangents: Gradients of single samples' losses that reached it, by sample.
        samples: Batch size ``N``.
        enough: How many of them it takes: one could lie where it lies by chance.
        silence: Why no gradient came that far, where that is known.
    """
    if not cotangents:
        return Finding() if silence is None else Finding(problem=silence)
    if len(cotangents) < enough:
        return Finding(problem=silence or _ALONE, possible=tuple(own_axes(cotangents, samples)))
    try:
        return Finding(find_batch_axis(cotangents, samples), reached=True)
    except Unavailable as reason:
        return Finding(problem=str(reason), reached=True, misdealt=kept_apart_otherwise(cotangents, samples))


def scattered(finding: Finding) -> Finding:
    """What was taken for samples that reach each other, where nothing could make them do so.

    In the data of packed sequences most of a sample lies where it would lie in a tensor with a batch axis.
    """
    if finding.axis is None or not finding.axis.coupled:
        return finding
    return Finding(problem="samples lie scattered over its output", reached=True)


def by_signature(findings: Mapping[Hidden, Finding]) -> dict[tuple[Any, ...], Finding]:
    """One for all calls that look the same: in the backward pass they are not told apart."""
    merged: dict[tuple[Any, ...], Finding] = {}
    for (signature, _), finding in findings.items():
        known = merged.get(signature)
        if known is None or not known.reached:
            merged[signature] = finding
        elif finding.reached and (finding.axis != known.axis or finding.misdealt):
            merged[signature] = Finding(problem=_DIFFERENT, reached=True, misdealt=known.misdealt or finding.misdealt)
    return merged


def as_their_likes(findings: Sequence[Sequence[Finding]], likeness: Sequence[Hashable]) -> None:
    """Where too few samples came by, takes what is known of operations that are alike, if these all agree.

    So it is in the last steps through time of a recurrent network, which the longest sequence alone goes through.

    Args:
        findings: Of each operation's outputs; those that nothing is known of are changed.
        likeness: What operations that are alike have in common.
    """
    known: dict[Hashable, set[tuple[BatchAxis | None, ...]]] = {}
    for outputs, kind in zip(findings, likeness, strict=True):
        if any(finding.reached for finding in outputs):
            known.setdefault(kind, set()).add(tuple(finding.axis for finding in outputs))
    for outputs, kind in zip(findings, likeness, strict=True):
        agreed = known.get(kind, set())
        if len(agreed) != 1 or any(finding.reached for finding in outputs):
            continue
        pairs = list(zip(outputs, *agreed, strict=True))
        if all(axis is not None and finding.may_have(axis) for finding, axis in pairs):
            for finding, axis in pairs:
                finding.axis, finding.reached = axis, True
