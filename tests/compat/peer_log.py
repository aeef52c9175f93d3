"""How ``peer.json`` was made: by f-dangel/cockpit itself.

In an environment of its own, with torch 2.13.0, backpack-for-pytorch 1.7.1, cockpit-for-pytorch 1.0.2 and
``setuptools<80``, away from this checkout: ``python peer_log.py peer``.
"""

import sys
from pathlib import Path

import torch
from backpack import extend

from cockpit import Cockpit, quantities
from cockpit.utils.schedules import linear

NAMES = (
    *("Alpha", "CABS", "Distance", "EarlyStopping", "GradNorm", "HessMaxEV", "HessTrace", "InnerTest", "Loss"),
    *("MeanGSNR", "NormTest", "OrthoTest", "Parameters", "TICDiag", "TICTrace", "Time", "UpdateSize"),
)


def main(path: Path) -> None:
    torch.manual_seed(0)
    model = extend(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Sigmoid(), torch.nn.Linear(2, 2)))
    loss_fn, losses_fn = extend(torch.nn.CrossEntropyLoss()), torch.nn.CrossEntropyLoss(reduction="none")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracked = [getattr(quantities, name)(linear(1)) for name in NAMES]
    tracked += [
        quantities.GradHist1d(linear(1), bins=4),
        quantities.GradHist2d(linear(2), bins=(2, 3), keep_individual=True),
    ]
    cockpit = Cockpit(model.parameters(), quantities=tracked)
    for step in range(4):
        x, y = torch.randn(8, 3), torch.randint(2, (8,))
        if step % 2 == 0:
            cockpit.log(step, step // 2, 0.7, 0.71, 0.72, 0.5, 0.51, 0.52, 0.1)
        optimizer.zero_grad()
        scores = model(x)
        loss, losses = loss_fn(scores, y), losses_fn(scores, y)
        info = {"batch_size": 8, "individual_losses": losses, "loss": loss, "optimizer": optimizer}
        with cockpit(step, info=info):
            loss.backward(create_graph=cockpit.create_graph(step))
        optimizer.step()
    cockpit.write(str(path.absolute()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
