"""L2O-LSTM: one small LSTM, the same for every coordinate, turns gradients into updates."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cockpit.datasets import Images, digits
from cockpit.optim.learned.classification import Activation, Classification
from cockpit.optim.learned.lstm import lstm, lstm_weights, uniform
from cockpit.optim.learned.optimizer import LearnedOptimizer
from cockpit.optim.learned.recipe import Recipe
from cockpit.optim.learned.rule import Rule, Signals, State, Tensors
from cockpit.optim.learned.unroll import Unrolled


def log_and_sign(gradient: Tensor, p: float) -> Tensor:
    r"""A gradient's order of magnitude and its direction, as two numbers of ordinary size.

    .. math::
        g \mapsto (\log|g| / p, \operatorname{sgn} g) \text{ if } |g| \ge e^{-p}, \text{ else } (-1, e^p g)

    Andrychowicz et al., *Learning to learn by gradient descent by gradient descent* (2016), appendix A.

    Args:
        gradient: Any shape.
        p: Gradients below :math:`e^{-p}` count as small.

    Returns:
        Shape ``[..., 2]``, continuous in the gradient.

    Example:
        >>> log_and_sign(torch.tensor([-1.0, 0.0]), p=10)
        tensor([[ 0., -1.],
                [-1.,  0.]])
    """
    magnitude = gradient.abs().clamp_min(math.exp(-p)).log() / p
    direction = (gradient * math.exp(p)).clamp(-1, 1)
    return torch.stack([magnitude, direction], dim=-1)


@dataclass(frozen=True)
class L2OLSTMRule(Rule):
    """Each coordinate has an LSTM's state of its own; all share its weights.

    Args:
        cells: Number of LSTM cells on top of each other.
        hidden: Units of each.
        p: Of :func:`log_and_sign`.
        output_scale: What the output is multiplied with before it is added to a parameter.
    """

    name = "L2O-LSTM"

    cells: int = 2
    hidden: int = 20
    p: float = 10.0
    output_scale: float = 0.1

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """The cells' weights, and those of the output: shape ``[hidden]``, and its bias, shape ``[]``."""
        weights = lstm_weights([2, *[self.hidden] * self.cells], generator)
        weights["output"] = uniform([self.hidden], 1 / math.sqrt(self.hidden), generator)
        weights["output.bias"] = torch.zeros(())
        return weights

    def init(self, params: Tensors) -> State:
        """``hidden`` and ``cell``, shape ``[cells, coordinates, hidden]``."""
        state = {}
        for name, p in params.items():
            empty = torch.zeros(self.cells, p.numel(), self.hidden, device=p.device)
            state[name] = {"hidden": empty, "cell": empty.clone()}
        return state

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """θ + output_scale · output."""
        updated, after = {}, {}
        for name, p in params.items():
            features = log_and_sign(gradients[name].reshape(-1).to(meta["output"].dtype), self.p)
            hidden, cell = lstm(meta, features, state[name]["hidden"], state[name]["cell"])
            output = hidden[-1] @ meta["output"] + meta["output.bias"]
            updated[name] = p + self.output_scale * output.reshape(p.shape)
            after[name] = {"hidden": hidden, "cell": cell}
        return updated, after


class L2OLSTM(LearnedOptimizer):
    """Learning to learn by gradient descent by gradient descent: updates are the outputs of an LSTM that has been
    trained to make losses fall fast.

    Keeps ``2 · cells · hidden`` numbers for each coordinate: 80 at the default settings, where Adam keeps 2.

    M. Andrychowicz et al., *Learning to learn by gradient descent by gradient descent*, NIPS 2016; meta-trained as by
    J. Sobotka and P. Šimánek, *Investigation into Training Dynamics of Learned Optimizers*.

    Args:
        params: As for any optimizer.
        weights: Of a meta-training, or where its file lies.
        lr: What the learned updates are multiplied with.

    Raises:
        ValueError: If the weights are those of another rule, or a parameter is complex.
    """

    rule_type = L2OLSTMRule


def recipe(images: Images | None = None, activation: Activation = "leaky_relu") -> Recipe:
    """Networks with one hidden layer of 20 units on mini-batches of 128, the sum of their losses over 20 unrolled
    steps, Adam: the protocol of Sobotka and Šimánek. Each training takes 100 steps, as those of Andrychowicz et al.

    Adam's learning rate is a third of the source's, and meta-gradients are clipped: at the source's 0.01 one
    meta-training of five came to nothing, clipped or not, and at 0.003 none did.

    Args:
        images: The source's are MNIST's, see :func:`cockpit.datasets.mnist`; by default scikit-learn's digits, which
            need no download.
        activation: The source's are leaky ReLUs, and ReLUs after batch normalisation, ``"norm_relu"``.
    """
    task = Classification(digits() if images is None else images, activation=activation)
    return Recipe(
        name="l2o_lstm",
        rule=L2OLSTMRule(),
        tasks=(task,),
        estimator=Unrolled(length=20, through_gradients=False),
        copies=1,
        horizon=100,
        iterations=1000,
        optimizer=functools.partial(torch.optim.Adam, lr=3e-3),
        clip=1.0,
        summary=torch.sum,
    )
