"""The rivals' losses and gradients beside PyTorch's autograd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_bridge as bridge

from clonalnet_jax.losses import (
    correlation_distillation_loss,
    decoupled_distillation_loss,
    standardised_distillation_loss,
    virtual_teacher_loss,
)

torch, _, _ = bridge.import_torch()


def kl(p, q):
    return torch.nn.functional.kl_div(q.log(), p, reduction="none").sum(-1)


def decoupled(student, teacher, labels):
    p, q = (x.div(4).softmax(-1) for x in (teacher, student))
    picked = torch.nn.functional.one_hot(labels, student.shape[-1]).bool()
    p_target, q_target = p[picked], q[picked]
    split = [torch.stack([x, 1 - x], -1) for x in (p_target, q_target)]
    rest = [x[~picked].reshape(len(labels), -1) for x in (p, q)]
    among = [x / x.sum(-1, keepdim=True) for x in rest]
    return 16 * (kl(*split) + 8 * kl(*among))


def standardised(student, teacher, labels):
    del labels
    scores = [
        (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-7)
        for x in (teacher, student)
    ]
    return 4 * kl(*((score / 2).softmax(-1) for score in scores))


def correlated(student, teacher, labels):
    """The cosine of centred rows, and of centred columns."""
    del labels
    p, q = (x.softmax(-1) for x in (student, teacher))
    inter, intra = (away(*(x - x.mean(k, True) for x in (p, q)), k) for k in (1, 0))
    return inter + intra.mean()


def away(x, y, axis):
    return 1 - (x * y).sum(axis) / (x.norm(dim=axis) * y.norm(dim=axis) + 1e-8)


def made_up(student, teacher, labels):
    del teacher
    classes = student.shape[-1]
    soft = torch.full_like(student, 0.01 / (classes - 1)).detach()
    soft[torch.arange(len(labels)), labels] = 0.99
    return kl((soft / 20).softmax(-1), student.softmax(-1))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (decoupled_distillation_loss, decoupled),
        (lambda s, t, y: standardised_distillation_loss(s, t), standardised),
        (lambda s, t, y: correlation_distillation_loss(s, t), correlated),
        (lambda s, t, y: virtual_teacher_loss(s, y), made_up),
    ],
    ids=["decoupled", "standardised", "correlated", "made up"],
)
def test_value_and_gradient_equal_autograd(rng, ours, theirs):
    student, teacher = rng.normal(size=(2, 16, 10)) * 3
    labels = rng.integers(10, size=16)
    tensor = torch.tensor(student, requires_grad=True)
    expected = theirs(tensor, torch.tensor(teacher), torch.tensor(labels))
    expected.sum().backward()
    with jax.enable_x64(True):
        value = ours(student, teacher, labels)
        gradient = jax.grad(lambda s: ours(s, teacher, labels).sum())(
            jnp.asarray(student)
        )
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-10)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-9, atol=1e-10)
