"""One process of a small distributed training, started as a launcher does: what it saw by brute force goes to a file.

``python one_of_several.py DIRECTORY`` with ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT``.
"""

from __future__ import annotations

import copy
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cockpit import Cockpit

N, STEPS, CLIPPED_TO = 6, 5, 0.2
WATCHED = "loss+grad_norm+norm_test+clip+update_size+update_grad_cosine+alpha+distance+activation"


def network() -> DistributedDataParallel:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    return DistributedDataParallel(model, bucket_cap_mb=1e-5)  # several buckets: reduced while the pass goes on


def batches(rank: int, steps: int = STEPS, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(10 * seed + rank)
    return [
        (torch.randn(N, 4, generator=draw, dtype=torch.float64), torch.randint(3, (N,), generator=draw))
        for _ in range(steps)
    ]


def norm(tensors: list[Tensor]) -> float:
    return float(torch.cat([t.detach().reshape(-1) for t in tensors]).norm())


def truth(ddp: DistributedDataParallel, x: Tensor, y: Tensor) -> dict[str, float]:
    """Of this process's own samples, and of those of all."""
    model = copy.deepcopy(ddp.module)
    loss = F.cross_entropy(model(x), y)
    own = torch.autograd.grad(loss, list(model.parameters()))
    everybodys = [g.clone() for g in own]
    for g in everybodys:
        dist.all_reduce(g)
        g /= dist.get_world_size()
    return {"loss": loss.item(), "own": norm(list(own)), "averaged": norm(everybodys)}


def sgd(ddp: DistributedDataParallel) -> torch.optim.Optimizer:
    return torch.optim.SGD(ddp.parameters(), lr=0.1, momentum=0.9)


def train(
    ddp: DistributedDataParallel, optimizer: torch.optim.Optimizer, cockpit: Cockpit | None, rank: int
) -> tuple[list[Tensor], list[dict[str, float]]]:
    saw = []
    for x, y in batches(rank):
        saw.append(truth(ddp, x, y))
        with nullcontext() if cockpit is None else cockpit.step():
            optimizer.zero_grad()
            F.cross_entropy(ddp(x), y).backward()
            nn.utils.clip_grad_norm_(ddp.parameters(), CLIPPED_TO)
            optimizer.step()
    return [p.detach().clone() for p in (*ddp.parameters(), *ddp.buffers())], saw


def watched(directory: Path, rank: int) -> tuple[bool, list[dict[str, float]]]:
    """Whether training was the same to the last bit, and what it was."""
    unwatched = network()
    plain, _ = train(unwatched, sgd(unwatched), None, rank)
    ddp = network()
    optimizer = sgd(ddp)
    # A name of its own, as where the clock is part of it: the first process's counts.
    with Cockpit(ddp, optimizer, run=directory / "runs" / f"from-{rank}", track=1, instruments=WATCHED) as cockpit:
        parameters, saw = train(ddp, optimizer, cockpit, rank)
        cockpit.log({"valid/accuracy": rank / 10})
    return all(torch.equal(a, b) for a, b in zip(plain, parameters, strict=True)), saw


def accumulated(directory: Path, rank: int, waits: bool) -> float:
    """Two backward passes in a step; norm of the process's own gradient over both."""
    ddp = network()
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
    name = "waits" if waits else "at-once"
    (x, y), (x2, y2) = batches(rank, 2, seed=2)
    options = {"track": 1, "instruments": "loss+grad_norm"}
    # The inner model is enough: the call around it is seen.
    with Cockpit(ddp.module, optimizer, run=directory / "runs" / name, **options) as cockpit:
        model = copy.deepcopy(ddp.module)
        whole = (F.cross_entropy(model(x), y) + F.cross_entropy(model(x2), y2)) / 2
        own = norm(list(torch.autograd.grad(whole, list(model.parameters()))))
        with cockpit.step():
            optimizer.zero_grad()
            with ddp.no_sync() if waits else nullcontext():
                (F.cross_entropy(ddp(x), y) / 2).backward()
            (F.cross_entropy(ddp(x2), y2) / 2).backward()
            optimizer.step()
    return own


def main() -> None:
    torch.set_num_threads(1)
    directory = Path(sys.argv[1])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    same, saw = watched(directory, rank)
    told = {
        "same": same,
        "saw": saw,
        "waits": accumulated(directory, rank, waits=True),
        "at-once": accumulated(directory, rank, waits=False),
    }
    (directory / f"{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
