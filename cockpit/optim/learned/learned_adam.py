"""Adam with what is usually tuned learned: steps, their schedule and momenta, for each kind of tensor in a network."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from cockpit.datasets import Images, digits
from cockpit.optim.learned.classification import Classification
from cockpit.optim.learned.kinds import KINDS, WEIGHTS, checked, fan_in, kinds_in, kinds_of, marked
from cockpit.optim.learned.optimizer import LearnedOptimizer
from cockpit.optim.learned.pes import PES
from cockpit.optim.learned.recipe import AnnealedAdam, Recipe, mean_log
from cockpit.optim.learned.rule import Rule, Signals, State, Tensors
from cockpit.optim.learned.weights import Weights

SHIPPED = Path(__file__).with_name("learned_adam.json")
"""The weights that come with the package."""

_USUAL_FAN_IN = 64
_USUAL_DEPTH = 3
_USUAL_HORIZON = 200
"""Width, depth and length at which a step is what ``log_step`` says, whatever the exponents."""


@dataclass(frozen=True)
class LearnedAdamRule(Rule):
    r"""Adam whose step is a learned function of the time, the length of the training, and the kind of tensor.

    With :math:`m_1, m_2` the averages of the gradient at two decays, :math:`v` that of its square, all without bias,
    and :math:`\tau = t / T`:

    .. math::
        \theta \leftarrow \theta - s(\tau)\, \frac{c_0(\tau) g + c_1(\tau) m_1 + c_2(\tau) m_2}{\sqrt{v + \epsilon^2}},
        \qquad s(\tau) = e^{a + b(\tau)} \left(\frac{n}{64}\right)^p \left(\frac{L}{3}\right)^r
        \left(\frac{T}{200}\right)^q

    where :math:`n` is the number of inputs of a weight, 64 for biases and gains, :math:`L` the number of weights
    in the network, :math:`b` is linear between knots, and :math:`c` is linear. All but the averages are learned, for
    each of :data:`~cockpit.optim.learned.kinds.KINDS`; after :math:`T` steps training goes on as at its end.

    Args:
        decays: Of the two averages of the gradient.
        square_decay: Of the average of its square.
        knots: Of the schedule, from 0 to 1.
        eps: ε.
    """

    name = "LearnedAdam"
    needs = frozenset({"horizon"})

    decays: tuple[float, float] = (0.9, 0.99)
    square_decay: float = 0.99
    knots: tuple[float, ...] = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
    eps: float = 1e-8

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """``log_step`` a, shape ``[kinds]``; ``width`` p, of weights, shape ``[3]``; ``depth`` r and ``length`` q,
        shape ``[kinds]``; ``schedule``, b at the knots, shape ``[kinds, knots]``; ``mix``, c at the start and at the
        end, shape ``[kinds, 2, 3]``. Before anything is learned: Adam with warm-up and cosine, at a rate of 0.01
        for layers of 64 inputs, smaller in wider ones and deeper networks."""
        warm_up = torch.tensor([0.1 + 0.9 * min(1.0, knot / 0.05) for knot in self.knots])
        cosine = torch.tensor([(1 + math.cos(math.pi * knot)) / 2 for knot in self.knots])
        return {
            "log_step": torch.full((len(KINDS),), math.log(0.01)),
            "width": torch.full((len(WEIGHTS),), -0.5),
            "depth": torch.full((len(KINDS),), -0.5),
            "length": torch.zeros(len(KINDS)),
            "schedule": (warm_up * cosine).clamp_min(0.02).log().repeat(len(KINDS), 1),
            "mix": torch.tensor([0.0, 1.0, 0.0]).repeat(len(KINDS), 2, 1),
        }

    def init(self, params: Tensors) -> State:
        """Of each tensor ``fast``, ``slow`` and ``square``, the averages, and ``count``, how many gradients it has had.
        In the tensor's precision, but at least single."""
        state: State = {}
        for name, p in params.items():
            wide = torch.promote_types(p.dtype, torch.float32)
            averages = {part: torch.zeros_like(p, dtype=wide) for part in ("fast", "slow", "square")}
            state[name] = {**averages, "count": torch.zeros((), dtype=wide)}
        return state

    def coefficients(self, meta: Tensors, params: Tensors, signals: Signals) -> Tensor:
        """``s·c`` of each tensor. Shape ``[tensors, 3]``.

        Args:
            meta: Meta-parameters.
            params: In order.
            signals: The time, and how many weights the network has.
        """
        time = (signals.step / signals.horizon).clamp(0, 1)
        knots = torch.tensor(self.knots, dtype=time.dtype, device=time.device)
        passed = ((time - knots[:-1]) / knots.diff()).clamp(0, 1)
        schedule = meta["schedule"][:, 0] + (meta["schedule"].diff(dim=1) * passed).sum(1)
        length = meta["length"] * (signals.horizon / _USUAL_HORIZON).log()
        weights = sum(p.ndim > 1 for p in params.values()) if signals.weights is None else signals.weights
        depth = meta["depth"] * math.log(max(1, weights) / _USUAL_DEPTH)
        start, end = meta["mix"].unbind(1)
        of_kinds = (meta["log_step"] + schedule + depth + length).exp()[:, None] * start.lerp(end, time)
        kinds = [KINDS.index(kind) for kind in kinds_of({name: p.shape for name, p in params.items()}).values()]
        width = torch.cat([meta["width"], torch.zeros_like(meta["length"][len(WEIGHTS) :])])
        fans = [math.log(max(1, fan_in(p.shape)) / _USUAL_FAN_IN) for p in params.values()]
        wide = (width[kinds] * torch.tensor(fans, dtype=width.dtype)).exp()
        return of_kinds[kinds] * wide[:, None]

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """Tensor by tensor."""
        updated, after = {}, {}
        for factors, (name, p) in zip(self.coefficients(meta, params, signals), params.items(), strict=True):
            old = state[name]
            g, count = gradients[name].to(old["fast"].dtype), old["count"] + 1
            fast, slow = (old[part].lerp(g, 1 - beta) for part, beta in zip(("fast", "slow"), self.decays, strict=True))
            square = old["square"].lerp(g * g, 1 - self.square_decay)
            first, second, third = (1 - beta**count for beta in (*self.decays, self.square_decay))
            mixed = factors[0] * g + factors[1] / first * fast + factors[2] / second * slow
            step = mixed / (square / third + self.eps**2).sqrt()
            updated[name] = p - step.to(p.dtype)
            after[name] = {"fast": fast, "slow": slow, "square": square, "count": count}
        return updated, after

    def update_(self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals) -> State:
        """The same, for all tensors at once: less than half of the time on a network with many small ones."""
        own = [state[name] for name in params]
        factors = self.coefficients(meta, params, signals).tolist()
        g = [gradients[name].to(s["fast"].dtype) for name, s in zip(params, own, strict=True)]
        fast, slow, square = ([s[part] for s in own] for part in ("fast", "slow", "square"))
        counts = [float(s["count"]) + 1 for s in own]
        first, second, third = ([1 - beta**n for n in counts] for beta in (*self.decays, self.square_decay))
        torch._foreach_lerp_(fast, g, 1 - self.decays[0])
        torch._foreach_lerp_(slow, g, 1 - self.decays[1])
        torch._foreach_lerp_(square, torch._foreach_mul(g, g), 1 - self.square_decay)
        step = torch._foreach_mul(g, [f[0] for f in factors])
        torch._foreach_add_(step, torch._foreach_mul(fast, [f[1] / n for f, n in zip(factors, first, strict=True)]))
        torch._foreach_add_(step, torch._foreach_mul(slow, [f[2] / n for f, n in zip(factors, second, strict=True)]))
        rms = torch._foreach_div(square, third)
        torch._foreach_add_(rms, self.eps**2)
        torch._foreach_sqrt_(rms)
        torch._foreach_div_(step, rms)
        torch._foreach_sub_(list(params.values()), step)
        return {name: {**s, "count": s["count"] + 1} for name, s in zip(params, own, strict=True)}


class LearnedAdam(LearnedOptimizer):
    """Adam with learned steps, schedule and momenta, whose weights come with the package::

        optimizer = LearnedAdam(model.named_parameters(), total_steps=epochs * len(loader))

    There is nothing to tune. Which kind a tensor is of, input, hidden or output weight, bias or gain of a
    normalisation, is found from the parameters' shapes and order, and from their names if there are any: without, gains
    are taken for biases. With ``model`` tables of embeddings are known as well. A group may say it itself:
    ``{"params": […], "kinds": […]}``. Groups that are added later have no input and no output.

    Keeps 3 numbers for each coordinate.

    Args:
        params: As for any optimizer.
        weights: Of another meta-training, or where its file lies.
        total_steps: How many steps training is going to take. It may take fewer, or go on with the last, small steps.
        model: The network of which these are parameters.
        lr: What the learned steps are multiplied with. Schedulers change it as any learning rate.

    Raises:
        ValueError: If there are no steps to take, a parameter is complex or on another device than the others, the
            kinds that were given are not kinds, or the weights are those of another rule.
    """

    rule_type = LearnedAdamRule
    _known: Mapping[Tensor, str] | None = None
    """Kinds that are known while it is made; later there are none."""

    def __init__(
        self,
        params: ParamsT,
        weights: str | Path | Weights = SHIPPED,
        *,
        total_steps: int,
        model: nn.Module | None = None,
        lr: float = 1.0,
    ) -> None:
        if not total_steps >= 1:
            raise ValueError(f"total_steps is how many steps training will take, at least 1; got {total_steps}")
        self._known = {} if model is None else kinds_in(model)
        super().__init__(params, weights, lr=lr, horizon=total_steps)
        del self._known

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As for any optimizer; ``"kinds"`` says of which kind each parameter is.

        Raises:
            ValueError: As when it is made.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            if "kinds" in group:
                group["kinds"] = checked(group["kinds"], len(group["params"]))
        except ValueError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As for any optimizer; kinds are those of the state.

        Raises:
            ValueError: If the state is that of another rule, version or weights; nothing has changed then.
        """
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state["count"] = state["count"].cpu()  # it is looked at in each step, and would be waited for

    def _names(self) -> dict[str, Tensor]:
        named = super()._names()
        if any("kinds" not in group for group in self.param_groups):
            self._find_kinds(named)
        kinds = [kind for group in self.param_groups for kind in group["kinds"]]
        return {marked(name, kind): p for kind, (name, p) in zip(kinds, named.items(), strict=True)}

    def _find_kinds(self, named: dict[str, Tensor]) -> None:
        kinds = kinds_of({name: p.shape for name, p in named.items()})
        found = {p: kinds[name] for name, p in named.items()} | dict(self._known or {})
        inside = {} if self._known is not None else {"input": "hidden", "output": "hidden"}
        for group in self.param_groups:
            if "kinds" not in group:
                group["kinds"] = [inside.get(found[p], found[p]) for p in group["params"]]

    def _meta(self, device: torch.device) -> Tensors:
        return self.weights.meta  # dozens of numbers, with which the processor computes some for each tensor

    def _signals(self, like: Tensor) -> Signals:
        return super()._signals(like.new_empty((), device="cpu"))


def recipe(images: Images | None = None) -> Recipe:
    """Small dense and convolutional networks of several widths, depths and activations, trained for 60 to 200 steps
    on images at many contrasts; logarithms of validation losses, by persistent evolution strategies.

    Args:
        images: By default scikit-learn's digits.
    """
    few = digits()
    images = few if images is None else images.shrunk(2)
    classification = functools.partial(Classification, outer="validation", varied=True)
    return Recipe(
        name="learned_adam",
        rule=LearnedAdamRule(),
        tasks=(
            classification(few, hidden=(32,), activation="relu", batch_size=32),
            classification(images, hidden=(64,), activation="relu", batch_size=64),
            classification(images, hidden=(32, 32), activation="tanh", batch_size=32),
            classification(images, hidden=(24,) * 4, activation="relu", batch_size=32),
            classification(few, hidden=(16,) * 7, activation="tanh", batch_size=32),
            classification(images, hidden=(32, 32), activation="norm_relu", batch_size=64),
            classification(images, channels=(8, 16), hidden=(), activation="relu", batch_size=32),
        ),
        horizon=(200, 60, 200, 200, 100, 100, 200),
        estimator=PES(length=20, sigma=0.1),
        copies=24,
        iterations=400,
        optimizer=functools.partial(AnnealedAdam, lr=0.02, steps=400),
        clip=1.0,
        summary=mean_log,
    )
