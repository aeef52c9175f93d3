"""Small rules of every kind, the problems they train, and a training by brute force."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cockpit.optim.learned import (
    L2OLSTM,
    LURE,
    ML3,
    MPT_LURE,
    Hierarchical,
    HierarchicalRule,
    L2OLSTMRule,
    LearnedAdam,
    LearnedAdamRule,
    LearnedOptimizer,
    LURERule,
    MetaSGD,
    MetaSGDRule,
    ML3Rule,
    MPTLURERule,
    Rule,
    Sines,
    Tensors,
    Weights,
)
from cockpit.optim.learned.ml3 import learned_losses
from cockpit.optim.learned.rule import SHARED, Signals, State

TASK = Sines(points=5, widths=(1, 3, 1))


@dataclass(frozen=True)
class MomentumRule(Rule):
    """Remembers gradients of each parameter, and counts what it was told for all of them."""

    name = "momentum"
    needs = frozenset({"loss", "valid_loss", "horizon"})

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        return {"rate": torch.full((2,), 0.05), "decay": 0.5 + 0.1 * torch.rand((), generator=generator)}

    def init(self, params: Tensors) -> State:
        momenta = {name: {"momentum": torch.zeros_like(p)} for name, p in params.items()}
        return {**momenta, SHARED: {"told": torch.zeros(())}}

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        told = state[SHARED]["told"] + signals.loss + 0.1 * signals.valid_loss
        rate = meta["rate"].mean() * (1 - signals.step / signals.horizon) / (1 + told)
        momenta = {name: meta["decay"] * state[name]["momentum"] + g for name, g in gradients.items()}
        new = {name: params[name] - rate * momentum for name, momentum in momenta.items()}
        return new, {**{name: {"momentum": m} for name, m in momenta.items()}, SHARED: {"told": told}}


class Momentum(LearnedOptimizer):
    rule_type = MomentumRule


class LearnedAdamWithHorizon(LearnedAdam):
    """Made as all the others are."""

    def __init__(self, params, weights, *, horizon: int) -> None:  # type: ignore[no-untyped-def]
        super().__init__(params, weights, total_steps=horizon)


OPTIMIZERS: dict[str, tuple[Rule, type[LearnedOptimizer]]] = {
    "LURE": (LURERule(TASK.shapes, gain=0.1), LURE),
    "MPT_LURE": (MPTLURERule(TASK.shapes, gain=0.1, precision="float64"), MPT_LURE),
    "MetaSGD": (MetaSGDRule(TASK.shapes), MetaSGD),
    "rates of MetaSGD": (MetaSGDRule(TASK.shapes, learned_start=False), MetaSGD),
    "with a memory": (MomentumRule(), Momentum),
    "ML3": (ML3Rule(learning_rate=0.5, hidden=(6, 4)), ML3),
    "L2O-LSTM": (L2OLSTMRule(hidden=3, p=3.0), L2OLSTM),
    "hierarchical": (HierarchicalRule(memory=3, context=2, hidden=4), Hierarchical),
    "LearnedAdam": (LearnedAdamRule(), LearnedAdamWithHorizon),
}


def doubled(tensors: Tensors) -> Tensors:
    return {name: tensor.double() for name, tensor in tensors.items()}


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(rule: Rule, dtype: torch.dtype = torch.float64) -> Weights:
    meta = rule.meta_parameters(chance())
    return Weights(rule, {name: tensor.to(dtype) for name, tensor in meta.items()}, {"recipe": "by hand"})


def network() -> nn.Module:
    """As :data:`TASK` has it, in double precision."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1)).double()


def problems(count: int) -> tuple[Tensors, Tensors]:
    params, data = TASK.sample(count, chance(1))
    return doubled(params), doubled(data)


def picked(stacked: Tensors, number: int) -> Tensors:
    return {name: tensor[number] for name, tensor in stacked.items()}


def inner_loss(rule: Rule, meta: Tensors, params: Tensors, data: Tensors) -> Tensor:
    """What a rule descends: the task's loss, but for rules that learn one."""
    if isinstance(rule, ML3Rule):
        return learned_losses(meta, TASK.predict(params, data["x"]), data["y"]).mean()
    return TASK.loss(params, data)


def by_brute_force(
    rule: Rule, meta: Tensors, params: Tensors, data: Tensors, horizon: int, steps: int
) -> tuple[list[Tensor], Tensors]:
    """Outer losses of a training by plain autograd, and its last parameters; all can be differentiated."""
    params = rule.start(meta, params)
    params = {name: p if p.requires_grad else p.clone().requires_grad_() for name, p in params.items()}
    state, losses = rule.init(params), []
    for step in range(steps):
        loss = inner_loss(rule, meta, params, data)
        scaled = getattr(rule, "scale", 1.0) * loss
        found = torch.autograd.grad(scaled, list(params.values()), create_graph=True)
        gradients = dict(zip(params, found, strict=True))
        clock = [torch.tensor(float(number), dtype=loss.dtype) for number in (step, horizon)]
        signals = Signals(*clock, loss, TASK.loss(params, data))
        params, state = rule.update(meta, gradients, params, state, signals)
        losses.append(TASK.loss(params, data))
    return losses, params
