"""What one of the two cockpits says of a training: ``python watched.py KIND '{"problem": …}' OUT.json STEPS``.

Runs in the environment of the cockpit that is asked. Both train the same network from the same seed on the same
batches in float64, tracking every step, with the same settings where both have them; both write, per quantity, a list
over the steps of a number or of nested lists of counts, ``null`` where there is none.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from loops import Job
from torch import nn

GRADIENTS, PARAMETERS = (-1.0, 1.0), (-2.0, 2.0)
BINS_1D, BINS_2D = 100, (40, 50)
EPSILON = 1e-30
"""In place of constants that the peer adds to variances and curvatures: too small to change a number."""

Told: TypeAlias = "dict[str, list[Any]]"


def cockpit(job: Job, steps: int) -> Told:
    """Cockpit's side."""
    from cockpit import Cockpit, instruments, load_run

    watching = [
        *(instruments.Loss(), instruments.Distance(), instruments.UpdateSize(), instruments.GradNorm()),
        *(instruments.NormTest(), instruments.InnerTest(), instruments.OrthoTest(), instruments.Alpha()),
        *(instruments.CABS(), instruments.EarlyStopping(), instruments.MeanGSNR()),
        # The networks are piecewise linear: their Gauss-Newton matrix has the Hessian's diagonal, and is cheaper.
        *(instruments.HessTrace(curvature="ggn"), instruments.TICTrace(curvature="ggn")),
        *(instruments.TICDiag(curvature="ggn"), instruments.HessMaxEV(tol=1e-6, max_products=100)),
        instruments.GradHist1d(*GRADIENTS, bins=BINS_1D),
        instruments.GradHist2d(*GRADIENTS, BINS_2D[0], *PARAMETERS, BINS_2D[1]),
    ]
    data, model, loss_fn = job.data(), job.model().double(), nn.CrossEntropyLoss()
    optimizer = job.optimizer(model)
    with Cockpit(model, optimizer, loss_fn, instruments=watching, track=1, run=job.log) as pit:
        for _ in range(steps + 1):  # one more, in which Alpha's second half is seen
            x, y = next(data)
            with pit.step():
                optimizer.zero_grad()
                loss_fn(model(x.double()), y).backward()
                optimizer.step()
    run = load_run(job.log)
    told = {type(i).__name__: _by_step(run[i.name], steps) for i in watching}
    for key in ("hess_max_ev.smallest", "mean_gsnr.left_out", "early_stopping.left_out", "tic_diag.left_out"):
        told[key] = _by_step(run[key], steps)
    return told


def _by_step(quantity: Any, steps: int) -> list[Any]:
    values: list[Any] = [None] * steps
    for step, value, missing in zip(quantity.steps, quantity.values, quantity.missing, strict=True):
        if step < steps:
            values[step] = None if missing else value.tolist()
    return values


def peer(job: Job, steps: int) -> Told:
    """The side of f-dangel/cockpit."""
    from backpack import extend

    from cockpit import Cockpit
    from cockpit import quantities as q

    def always(step: int) -> bool:  # it is asked for the step before the first, too
        return step >= 0

    watching = [
        *(q.Loss(always), q.Distance(always), q.UpdateSize(always), q.GradNorm(always)),
        *(q.NormTest(always), q.InnerTest(always), q.OrthoTest(always), q.Alpha(always)),
        *(q.CABS(always), q.EarlyStopping(always), q.MeanGSNR(always)),
        *(q.HessTrace(always), q.TICTrace(always), q.TICDiag(always)),
        q.GradHist1d(always, bins=BINS_1D, range=GRADIENTS),
        q.GradHist2d(always, bins=BINS_2D, range=(GRADIENTS, PARAMETERS)),
    ]
    without_constants = [
        q.EarlyStopping(always, epsilon=EPSILON),
        q.MeanGSNR(always, epsilon=EPSILON),
        q.TICTrace(always, epsilon=EPSILON),
        q.TICDiag(always, epsilon=EPSILON),
    ]
    told = _told(job, steps, watching, Cockpit, extend)
    told |= _told(job, steps, [q.HessMaxEV(always)], Cockpit, extend, torch.float32)  # it knows no other
    exact = _told(job, steps, without_constants, Cockpit, extend)
    return told | {f"{name}, ε → 0": values for name, values in exact.items()}


def _told(
    job: Job,
    steps: int,
    watching: list[Any],
    cockpit_class: Any,
    extend: Callable[..., Any],
    dtype: torch.dtype = torch.float64,
) -> Told:
    data, model = job.data(), extend(job.model().to(dtype))
    loss_fn, individual_loss_fn = extend(nn.CrossEntropyLoss()), nn.CrossEntropyLoss(reduction="none")
    optimizer = job.optimizer(model)
    pit = cockpit_class(model.parameters(), quantities=watching)
    for step in range(steps + 1):  # one more, in which the last update is measured
        x, y = next(data)
        optimizer.zero_grad()
        outputs = model(x.to(dtype))
        loss = loss_fn(outputs, y)
        losses = individual_loss_fn(outputs, y)
        info = {"batch_size": len(y), "individual_losses": losses, "loss": loss, "optimizer": optimizer}
        with pit(step, info=info):
            loss.backward(create_graph=pit.create_graph(step))
        optimizer.step()
    output = pit.get_output()
    names = [type(quantity).__name__ for quantity in watching]
    return {name: [_network_wise(name, output[step].get(name)) for step in range(steps)] for name in names}


def _network_wise(name: str, value: Any) -> Any:
    """The peer gives some quantities parameter by parameter."""
    if value is None:
        return None
    if isinstance(value, dict):
        return np.asarray(value["hist"]).round().astype(int).tolist()
    if name in ("Distance", "UpdateSize", "GradNorm"):
        return float(np.sqrt(np.sum(np.square(value))))
    return float(np.sum(value))


def main() -> None:
    kind, job, out, steps = sys.argv[1], Job(**json.loads(sys.argv[2])), Path(sys.argv[3]), int(sys.argv[4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is missing is counted by the reader of the numbers
        told = {"cockpit": cockpit, "peer": peer}[kind](job, steps)
    out.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
