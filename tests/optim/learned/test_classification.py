import numpy as np
import pytest
import torch
from torch import nn

from cockpit.datasets import Images
from cockpit.optim.learned.classification import Classification


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (30, 1, 2, 3), dtype=np.uint8), np.arange(30) % 4
    return Images("few", pixels[:20], labels[:20], pixels[20:], labels[20:])


def one(stacked):
    return {name: tensor[1] for name, tensor in stacked.items()}


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "norm_relu", "silu"])
@pytest.mark.parametrize("outer", ["training", "validation"])
def test_losses_are_those_of_the_network_on_its_images(images, activation, outer):
    task = Classification(images, hidden=(5, 4), activation=activation, batch_size=7, outer=outer)
    generator = torch.Generator().manual_seed(0)
    params, data = task.sample(2, generator)
    batch = one(task.batch(data, generator))
    network = task.network()
    network.load_state_dict(one(params))
    cross_entropy = nn.CrossEntropyLoss()

    def truth(pixels, labels, chosen):
        x = torch.tensor(pixels[chosen].reshape(7, 6) / 255, dtype=torch.float32)
        return cross_entropy(network(x), torch.tensor(labels[chosen]))

    training = truth(images.x_train, images.y_train, batch["train"].numpy())
    validation = truth(images.x_valid, images.y_valid, batch["valid"].numpy())
    torch.testing.assert_close(task.loss(one(params), batch), training)
    torch.testing.assert_close(task.valid_loss(one(params), batch), validation)
    torch.testing.assert_close(task.outer_loss(one(params), batch), training if outer == "training" else validation)


def test_convolutions_come_before_the_dense_layers(images):
    task = Classification(images, channels=(3, 2), hidden=(5,), activation="norm_relu", batch_size=7)
    shapes = [list(p.shape) for p in task.network().parameters() if p.ndim > 1]
    assert shapes == [[3, 1, 3, 3], [2, 3, 3, 3], [5, 2], [4, 5]]
    params, data = task.sample(2, torch.Generator().manual_seed(0))
    batch = one(task.batch(data, torch.Generator().manual_seed(0)))
    network = task.network()
    network.load_state_dict(one(params))
    x = torch.tensor(images.x_train[batch["train"]] / 255, dtype=torch.float32)
    convolutions, dense = network[1:7], network[7:]
    truth = nn.functional.cross_entropy(dense(convolutions(x)), torch.tensor(images.y_train)[batch["train"]])
    torch.testing.assert_close(task.loss(one(params), batch), truth)


def test_varied_problems_see_images_at_contrasts_of_their_own(images):
    plain, varied = (Classification(images, hidden=(5,), batch_size=7, varied=some) for some in (False, True))
    params, data = varied.sample(200, torch.Generator().manual_seed(0))
    assert 0.5 <= float(data["contrast"].min()) < 0.6 < 1.8 < float(data["contrast"].max()) <= 2
    assert -0.5 <= float(data["brightness"].min()) < -0.4 < 0.4 < float(data["brightness"].max()) <= 0.5
    batch = one(varied.batch(data, torch.Generator().manual_seed(0)))
    plain.x, plain.x_valid = (batch["contrast"] * x + batch["brightness"] for x in (plain.x, plain.x_valid))
    for name in ("loss", "valid_loss"):
        torch.testing.assert_close(getattr(varied, name)(one(params), batch), getattr(plain, name)(one(params), batch))
    assert varied.name == "few, 6-5-4 leaky_relu, batches of 7, varied, training loss"


@pytest.mark.parametrize("activation", ["leaky_relu", "norm_relu"])
def test_stacked_problems_have_the_losses_and_gradients_of_each_alone(images, activation):
    task = Classification(images, hidden=(5,), activation=activation, batch_size=7)
    generator = torch.Generator().manual_seed(0)
    params, data = task.sample(2, generator)
    batch = task.batch(data, generator)
    gradients, losses = torch.func.vmap(torch.func.grad_and_value(task.loss))(params, batch)
    alone, loss = torch.func.grad_and_value(task.loss)(one(params), one(batch))
    torch.testing.assert_close(losses[1], loss)
    torch.testing.assert_close(one(gradients), alone)


def test_mini_batches_are_drawn_from_all_images(images):
    task = Classification(images, batch_size=500)
    generator = torch.Generator().manual_seed(0)
    _, data = task.sample(1, generator)
    batch = task.batch(data, generator)
    assert set(batch["train"].flatten().tolist()) == set(range(20))
    assert set(batch["valid"].flatten().tolist()) == set(range(10))


def test_what_is_unknown_is_refused_by_name(images):
    with pytest.raises(ValueError, match=r"relu, leaky_relu, tanh, norm_relu.*'gelu'"):
        Classification(images, activation="gelu")
    with pytest.raises(ValueError, match=r"training, validation.*'test'"):
        Classification(images, outer="test")
