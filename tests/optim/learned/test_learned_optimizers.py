"""A learned optimizer among ordinary ones: groups, schedules, and everything that it refuses."""

import copy
import dataclasses

import pytest
import torch
from rules import OPTIMIZERS, TASK, Momentum, MomentumRule, doubled, network, picked, problems, weights
from torch import nn

from cockpit.optim.learned import LURE, LURERule, MetaSGD, MetaSGDRule, Weights
from cockpit.optim.learned.weights import FORMAT, load_as, save_as

LEARNED = weights(OPTIMIZERS["LURE"][0])


def values(model):
    return [p.detach().clone() for p in model.parameters()]


def backward(model):
    data = picked(doubled(problems(1)[1]), 0)
    loss = TASK.loss(dict(model.named_parameters()), data)
    loss.backward()
    return loss


def steps_of(optimizer, model):
    before = values(model)
    optimizer.zero_grad()
    backward(model)
    optimizer.step()
    return [p - q for p, q in zip(values(model), before, strict=True)]


def test_lure_is_the_hyperbolic_tangent_of_weight_times_gradient():
    model = network()
    backward(model)
    gradients = [p.grad.clone() for p in model.parameters()]
    steps = steps_of(LURE(model.parameters(), LEARNED), model)
    for step, gradient, weight in zip(steps, gradients, LEARNED.meta.values(), strict=True):
        torch.testing.assert_close(step, -torch.tanh(weight * gradient))


def test_meta_sgd_has_a_rate_for_each_parameter_and_a_start():
    learned = weights(MetaSGDRule(TASK.shapes))
    model = network()
    optimizer = MetaSGD(model.parameters(), learned)
    optimizer.start()
    for name, p in model.named_parameters():
        assert torch.equal(p, learned.meta[f"start.{name}"])
    backward(model)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    for step, (name, gradient) in zip(steps_of(optimizer, model), gradients.items(), strict=True):
        torch.testing.assert_close(step, -learned.meta[f"rate.{name}"] * gradient)


def test_a_rule_without_a_learned_start_leaves_parameters_where_they_are():
    model = network()
    before = values(model)
    LURE(model.parameters(), LEARNED).start()
    assert all(torch.equal(p, q) for p, q in zip(values(model), before, strict=True))


def test_the_learning_rate_multiplies_the_learned_step_group_by_group():
    whole, model = network(), network()
    full = steps_of(LURE(whole.parameters(), LEARNED), whole)
    groups = [{"params": model[0].parameters(), "lr": 0.25}, {"params": model[2].parameters()}]
    optimizer = LURE(groups, LEARNED)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=1)
    steps = steps_of(optimizer, model)
    scheduler.step()
    for step, learned, rate in zip(steps, full, (0.125, 0.125, 0.5, 0.5), strict=True):
        torch.testing.assert_close(step, rate * learned)
    optimizer.param_groups[0]["lr"] = 0.0
    assert [bool(step.any()) for step in steps_of(optimizer, model)] == [False, False, True, True]


def test_groups_may_be_added_to_a_rule_for_any_parameters():
    model = network()
    optimizer = Momentum(model[0].parameters(), weights(MomentumRule()), horizon=9)
    optimizer.add_param_group({"params": model[2].parameters()})
    optimizer.tell(loss=0.5, valid_loss=0.5)
    assert all(step.any() for step in steps_of(optimizer, model))


@pytest.mark.parametrize("grouped", [True, False], ids=["two groups", "one group"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_networks_whose_parameters_have_the_same_names_are_trained_as_without_names(name, grouped):
    rule, optimizer_type = OPTIMIZERS[name]
    found = []
    for named in (True, False):
        model = network()
        parts = [list(part.named_parameters() if named else part.parameters()) for part in (model[0], model[2])]
        groups = [{"params": part} for part in parts] if grouped else parts[0] + parts[1]
        optimizer = optimizer_type(groups, weights(rule), horizon=9)
        before = values(model)
        for _ in range(2):
            optimizer.zero_grad()
            optimizer.tell(loss=backward(model), valid_loss=1.0)
            optimizer.step()
        found.append(values(model))
        assert not any(torch.equal(p, q) for p, q in zip(found[-1], before, strict=True))
    assert all(torch.equal(p, q) for p, q in zip(*found, strict=True))


def test_a_closure_tells_the_loss():
    model, other = network(), network()
    optimizer, told = (Momentum(m.parameters(), weights(MomentumRule()), horizon=9) for m in (model, other))
    optimizer.tell(valid_loss=0.5)

    def closure():
        optimizer.zero_grad()
        return backward(model)

    loss = optimizer.step(closure)
    expected = backward(other)
    told.tell(loss=expected, valid_loss=0.5)
    told.step()
    assert all(torch.equal(p, q) for p, q in zip(values(model), values(other), strict=True))
    assert torch.equal(loss, expected)


def test_what_is_told_is_copied_with_the_optimizer_and_keeps_no_graph():
    model = network()
    optimizer = Momentum(model.parameters(), weights(MomentumRule()), horizon=9)
    loss = backward(model)
    optimizer.tell(loss=loss, valid_loss=loss)
    twin_model, twin = copy.deepcopy((model, optimizer))
    for p, q in zip(twin_model.parameters(), model.parameters(), strict=True):
        p.grad = q.grad.clone()
    twin.step()
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(values(model), values(twin_model), strict=True))


def test_half_precision_parameters_are_trained_in_their_precision():
    learned = weights(LURERule(TASK.shapes, gain=0.1), torch.float32)
    model = network().bfloat16()
    optimizer = LURE(model.parameters(), learned)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    momentum = Momentum(model.parameters(), weights(MomentumRule(), torch.float32), horizon=9)
    momentum.tell(loss=1.0, valid_loss=1.0)
    momentum.step()
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())


def refuses(kind, words, act, model):
    before = values(model)
    with pytest.raises(kind, match=words):
        act()
    assert all(torch.equal(p, q) for p, q in zip(values(model), before, strict=True))


@pytest.mark.parametrize(("other", "words"), [
    (lambda: nn.Linear(1, 4), r"parameter 0 has shape \[4, 1\] where they have 0.weight \[3, 1\]"),
    (lambda: nn.Linear(1, 3), "for 4 parameters, and there are 2"),
    (lambda: nn.Sequential(network(), nn.Linear(1, 1)), r"parameter 4 has shape \[1, 1\] where they have no more"),
])  # fmt: skip
def test_weights_for_another_architecture_are_refused(other, words):
    model = other()
    refuses(
        ValueError, f"learned for another architecture: .*{words}", lambda: LURE(model.parameters(), LEARNED), model
    )


def test_a_group_too_many_is_refused_and_not_kept():
    model, more = network(), nn.Linear(2, 2).double()
    optimizer = LURE(model.parameters(), LEARNED)
    refuses(ValueError, "no more", lambda: optimizer.add_param_group({"params": more.parameters()}), more)
    assert len(optimizer.param_groups) == 1
    assert all(step.any() for step in steps_of(optimizer, model)[2:])


def test_complex_parameters_are_refused():
    p = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="momentum has no rule for complex parameters"):
        Momentum([p], weights(MomentumRule()), horizon=9)


def test_parameters_on_several_devices_are_refused():
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, device="meta"))]
    with pytest.raises(ValueError, match="on one device, and these are on several"):
        Momentum(parameters, weights(MomentumRule()), horizon=9)


def test_sparse_gradients_are_refused_before_anything_changes():
    model = nn.Sequential(nn.Embedding(4, 2, sparse=True), nn.Linear(2, 1)).double()
    optimizer = Momentum(model.parameters(), weights(MomentumRule()), horizon=9)
    optimizer.tell(loss=1.0, valid_loss=1.0)
    model(torch.tensor([1])).sum().backward()
    refuses(RuntimeError, "no rule for sparse gradients: use an embedding with sparse=False", optimizer.step, model)
    assert optimizer.steps == 0


def test_what_a_rule_looks_at_has_to_be_told():
    model = network()
    with pytest.raises(ValueError, match=r"momentum follows a schedule: .* horizon="):
        Momentum(model.parameters(), weights(MomentumRule()))
    optimizer = Momentum(model.parameters(), weights(MomentumRule()), horizon=9)
    backward(model)
    refuses(RuntimeError, r"optimizer.tell\(loss=…, valid_loss=…\) before step", optimizer.step, model)
    optimizer.tell(loss=1.0)
    refuses(RuntimeError, r"optimizer.tell\(valid_loss=…\) before step", optimizer.step, model)
    with pytest.raises(ValueError, match="lr is at least 0; got -1"):
        LURE(model.parameters(), LEARNED, lr=-1)


def test_states_of_others_are_refused_and_leave_everything_as_it_was():
    model = network()
    optimizer = LURE(model.parameters(), LEARNED)
    other = Weights(LEARNED.rule, {name: 2 * tensor for name, tensor in LEARNED.meta.items()})
    backward(model)
    later = LURE(model.parameters(), LEARNED).state_dict()
    later["learned"]["version"] = 99
    for state, words in (
        (
            LURE(model.parameters(), other).state_dict(),
            f"it is one of LURE, version 1, with the weights {other.fingerprint()}",
        ),
        (torch.optim.SGD(model.parameters(), lr=0.1).state_dict(), "it is that of another optimizer"),
        (later, "it is one of LURE, version 99"),
    ):
        with pytest.raises(ValueError, match=words):
            optimizer.load_state_dict(state)
    optimizer.load_state_dict(LURE(model.parameters(), LEARNED).state_dict())
    assert all(step.any() for step in steps_of(optimizer, model)[2:])


def test_weights_of_another_rule_version_or_format_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    LEARNED.save(path)
    model = network()
    refuses(
        ValueError,
        "holds weights of 'LURE'; weights of 'MetaSGD' were",
        lambda: MetaSGD(model.parameters(), path),
        model,
    )
    refuses(ValueError, "weights of LURE; weights of MetaSGD were", lambda: MetaSGD(model.parameters(), LEARNED), model)
    monkeypatch.setattr(LURERule, "version", 2)
    refuses(
        ValueError,
        "version 1 of LURE, and this is version 2: meta-train",
        lambda: LURE(model.parameters(), path),
        model,
    )
    monkeypatch.undo()
    content = load_as(path, FORMAT)
    for change, words in (
        ({"format_version": 99}, "in version 99 of its format.* upgrade Cockpit"),
        ({"format": "something else"}, "is no file of a cockpit learned optimizer"),
        ({"settings": {"shapes": LEARNED.rule.shapes, "colour": "red"}}, "no weights that fit LURE: .*colour"),
        (
            {"meta": {"0.weight": torch.zeros(3)}},
            r"no weights that fit LURE: .*has meta-parameters .*these are 0.weight \[3\]",
        ),
        ({"meta": {name: t * float("nan") for name, t in LEARNED.meta.items()}}, "not finite: 0.weight, "),
    ):
        save_as(path, FORMAT, {**content, **change})
        if "format" in str(list(change)):
            torch.save({**content, **change}, path)
        refuses(ValueError, words, lambda: LURE(model.parameters(), path), model)
    for spoilt in (b"", b"no weights", path.read_bytes()[:200]):
        path.write_bytes(spoilt)
        refuses(ValueError, "is no file of a cockpit learned optimizer", lambda: LURE(model.parameters(), path), model)
    with pytest.raises(FileNotFoundError):
        LURE(model.parameters(), tmp_path / "none.pt")


def test_spoilt_texts_of_weights_are_refused(tmp_path):
    path = tmp_path / "weights.json"
    LEARNED.save(path)
    text = path.read_text()
    for spoilt, words in (
        (text[:200], "is no file of a cockpit learned optimizer"),
        ("[]", "is no file of a cockpit learned optimizer"),
        (text.replace('"format_version": 1', '"format_version": 99'), "in version 99 of its format.* upgrade Cockpit"),
        (text.replace("float64", "save"), "holds no weights"),
        (text.replace('"values"', '"numbers"'), "holds no weights"),
        (
            text.replace('"rule": "LURE"', '"rule": "other"'),
            "holds weights of 'other'; weights of 'LURE' were",
        ),
    ):
        path.write_text(spoilt)
        with pytest.raises(ValueError, match=words):
            Weights.load(path, LURERule)


def test_a_file_of_weights_runs_no_code(tmp_path):
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self):
            return (path.with_name("owned").touch, ())

    torch.save({"format": FORMAT, "meta": Evil()}, path)
    with pytest.raises(ValueError, match="is no file of a cockpit learned optimizer"):
        Weights.load(path, LURERule)
    assert not path.with_name("owned").exists()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "weights.pt"
    LEARNED.save(path)
    with pytest.raises(AttributeError):
        dataclasses.replace(LEARNED, provenance={"made by": lambda: None}).save(path)
    assert Weights.load(path, LURERule).fingerprint() == LEARNED.fingerprint()
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]
