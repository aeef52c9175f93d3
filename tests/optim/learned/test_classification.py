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


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "norm_relu"])
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
