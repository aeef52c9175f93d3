"""Any learned rule as an ordinary optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from cockpit.optim.learned.rule import SHARED, Rule, Signals, State, Tensors
from cockpit.optim.learned.weights import Weights, shapes

_SAVED = "learned"
"""Key of a state dict under which stands what no parameter or group has."""


class LearnedOptimizer(Optimizer):
    """A rule with learned weights, used as any optimizer is.

    Args:
        params: As for any optimizer.
        weights: What was learned: a file that meta-training wrote, or the weights themselves.
        lr: Multiplies the learned step; 1 is what was learned. Schedulers change it as any learning rate.
        horizon: How many steps training is going to take, for rules that are told.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the weights are of another rule or version, or for parameters of other shapes; if a parameter is
            complex or on another device than the others; if the rule has to know the horizon, and it is not given.
    """

    rule_type: ClassVar[type[Rule]]

    def __init__(
        self, params: ParamsT, weights: str | Path | Weights, *, lr: float = 1.0, horizon: int | None = None
    ) -> None:
        self.weights = _loaded(weights, self.rule_type)
        self.horizon = horizon
        self.steps = 0
        self._shared: Tensors = {}
        self._told: dict[str, Any] = {}
        self._placed: tuple[torch.device, Tensors] | None = None
        if horizon is None and "horizon" in self.rule.needs:
            raise ValueError(
                f"{self.rule.name} follows a schedule: say with horizon= how many steps training will take"
            )
        if not lr >= 0:
            raise ValueError(f"lr is at least 0; got {lr}")
        super().__init__(params, {"lr": lr})
        _check_complete(self.rule, self._names())

    @property
    def rule(self) -> Rule:
        """The rule, with the settings it was learned with."""
        return self.weights.rule

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As for any optimizer.

        Raises:
            ValueError: If a parameter is complex or on another device, or the rule is one for other parameters.
        """
        super().add_param_group(param_group)
        try:
            self._check_parameters()
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def start(self) -> None:
        """Puts the parameters where the rule has training start, if that was learned; else leaves them."""
        found = self._names()
        meta = self._meta(next(iter(found.values())).device)
        for name, value in self.rule.start(meta, found).items():
            found[name].copy_(value)

    def tell(self, *, loss: Tensor | float | None = None, valid_loss: Tensor | float | None = None) -> None:
        """Says what the next step is to know: some rules look at the loss. A closure's loss is known without.

        Args:
            loss: The training loss that the gradients are of.
            valid_loss: A validation loss.
        """
        for name, value in {"loss": loss, "valid_loss": valid_loss}.items():
            if value is not None:
                self._told[name] = value.detach() if isinstance(value, Tensor) else value

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update.

        Args:
            closure: Evaluates the loss, and calls ``backward``.

        Raises:
            RuntimeError: If a gradient is sparse, or the rule has to be told something that it was not; no parameter
                has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            self.tell(loss=loss)
        found = self._with_gradients()
        if found:
            self._update(found)
        self._told = {}
        self.steps += 1
        return loss

    def _with_gradients(self) -> dict[str, Tensor]:
        """The parameters that have one, by name."""
        found = {name: parameter for name, parameter in self._names().items() if parameter.grad is not None}
        if any(parameter.grad.layout != torch.strided for parameter in found.values()):  # type: ignore[union-attr]
            raise RuntimeError(f"{self.rule.name} has no rule for sparse gradients: use an embedding with sparse=False")
        if missing := [name for name in ("loss", "valid_loss") if name in self.rule.needs and name not in self._told]:
            words = ", ".join(f"{name}=…" for name in missing)
            raise RuntimeError(
                f"{self.rule.name} has to be told more than gradients: optimizer.tell({words}) before step()"
            )
        return found

    def _update(self, found: dict[str, Tensor]) -> None:
        like = next(iter(found.values()))
        gradients = self._gradients(found)
        rates = {p: float(group["lr"]) for group in self.param_groups for p in group["params"]}
        before = {name: p.clone() for name, p in found.items() if rates[p] != 1}
        state = self.rule.update_(self._meta(like.device), gradients, found, self._state(found), self._signals(like))
        for name, start in before.items():
            found[name].lerp_(start, 1 - rates[found[name]])
        self._shared = state.pop(SHARED, {})
        for name, tensors in state.items():
            self.state[found[name]] = tensors

    def _gradients(self, found: dict[str, Tensor]) -> Tensors:
        return {name: p.grad for name, p in found.items() if p.grad is not None}

    def _meta(self, device: torch.device) -> Tensors:
        if self._placed is None or self._placed[0] != device:
            self._placed = device, {name: tensor.to(device) for name, tensor in self.weights.meta.items()}
        return self._placed[1]

    def _state(self, found: dict[str, Tensor]) -> State:
        """What is remembered of parameters, of new ones what is at first."""
        new = {name: p for name, p in found.items() if p not in self.state}
        begun = self.rule.init(new) if new else {}
        if not self._shared:
            self._shared = begun.get(SHARED, {})
        known = {name: self.state[p] for name, p in found.items() if p in self.state}
        state = {**begun, **known}
        return {**state, SHARED: self._shared} if self._shared else state

    def _signals(self, like: Tensor) -> Signals:
        values = {"loss": None, "valid_loss": None, **self._told, "step": self.steps, "horizon": self.horizon}
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        weights = sum(p.ndim > 1 for group in self.param_groups for p in group["params"])
        return Signals(**{name: _scalar(v, dtype, like.device) for name, v in values.items()}, weights=weights)

    def _names(self) -> dict[str, Tensor]:
        """All parameters by the names that the rule has for them: its own, the user's, or numbers. Where the user's
        repeat, all have a number before them."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        if self.rule.tensors is not None:
            names = list(self.rule.tensors)
        elif all("param_names" in group for group in self.param_groups):
            names = [name for group in self.param_groups for name in group["param_names"]]
            if len(set(names)) < len(names):  # of several networks
                names = [f"{number}.{name}" for number, name in enumerate(names)]
        else:
            names = [str(number) for number in range(len(parameters))]
        return dict(zip(names, parameters, strict=False))  # the rule's may be more while groups are still added

    def _check_parameters(self) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        if any(p.is_complex() for p in parameters):
            raise ValueError(f"{self.rule.name} has no rule for complex parameters")
        if len({p.device for p in parameters}) > 1:
            raise ValueError(f"{self.rule.name} has a rule for parameters on one device, and these are on several")
        expected = self.rule.tensors
        if expected is None:
            return
        for number, (name, p) in enumerate(zip([*expected, *([None] * len(parameters))], parameters, strict=False)):
            if name is None or tuple(p.shape) != tuple(expected[name]):
                there = "no more parameters" if name is None else f"{name} {list(expected[name])}"
                raise ValueError(
                    f"these weights of {self.rule.name} were learned for another architecture: parameter {number} has "
                    f"shape {list(p.shape)} where they have {there}"
                )

    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in ("weights", "horizon", "steps", "_shared", "_told", "_placed")}
        return {**super().__getstate__(), **own}

    def state_dict(self) -> dict[str, Any]:
        """As for any optimizer. The weights themselves are not in it, but a fingerprint of them."""
        saved = {"rule": self.rule.name, "version": self.rule.version, "weights": self.weights.fingerprint()}
        return {**super().state_dict(), _SAVED: {**saved, "steps": self.steps, "shared": dict(self._shared)}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As for any optimizer.

        Raises:
            ValueError: If the state is that of another rule, version or weights; nothing has changed then.
        """
        saved = state_dict.get(_SAVED)
        mine = (self.rule.name, self.rule.version, self.weights.fingerprint())
        theirs = (saved.get("rule"), saved.get("version"), saved.get("weights")) if isinstance(saved, Mapping) else None
        if saved is None or mine != theirs:
            raise ValueError(
                f"the state is not one of {self.rule.name}, version {self.rule.version}, with these weights "
                f"({mine[2]}): {_described(theirs)}"
            )
        super().load_state_dict(dict(state_dict))
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, p in zip(numbers, parameters, strict=True):  # the base class casts to the parameter's precision
            for name, tensor in state_dict["state"].get(number, {}).items():
                self.state[p][name] = tensor.to(p.device, copy=True)
        self.steps = int(saved["steps"])
        self._shared = {name: tensor.to(parameters[0].device, copy=True) for name, tensor in saved["shared"].items()}
        self._told = {}


def _loaded(weights: str | Path | Weights, rule: type[Rule]) -> Weights:
    if not isinstance(weights, Weights):
        return Weights.load(weights, rule)
    if not isinstance(weights.rule, rule):
        raise ValueError(f"these are weights of {weights.rule.name}; weights of {rule.name} were expected")
    return weights


def _check_complete(rule: Rule, found: Mapping[str, Tensor]) -> None:
    if rule.tensors is not None and len(rule.tensors) != len(found):
        raise ValueError(
            f"these weights of {rule.name} were learned for another architecture: for {len(rule.tensors)} parameters, "
            f"and there are {len(found)}, of shapes {list(map(list, shapes(found).values()))}"
        )


def _scalar(value: Tensor | float | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    known = float("nan") if value is None else value
    return torch.as_tensor(known, dtype=dtype, device=device).detach().reshape(())


def _described(identity: tuple[Any, ...] | None) -> str:
    if identity is None:
        return "it is that of another optimizer"
    name, version, weights = identity
    return f"it is one of {name}, version {version}, with the weights {weights}"
