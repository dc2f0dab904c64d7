"""The loss that each run minimises: the clone's, and those that it is compared with."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike
from ml_collections import ConfigDict, FrozenConfigDict

from clonalnet_jax import losses
from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.models.import_paths import find_own, is_own
from clonalnet_jax.runtime.retracing import made_once
from clonalnet_jax.state import LossFn, Terms
from clonalnet_jax.training.answers import Answers
from clonalnet_jax.training.variants import read_variants, with_values

OVER = math.inf
"""The epoch of a loss whose schedule, if it has one, is over."""


class Method(NamedTuple):
    """A way to train a network.

    Attributes:
      loss_fn: Its term `loss` is minimised; the other terms are logged.
      needs_baseline: Whether `baseline_logits` are given; they are None otherwise.
      takes_answers: Whether the loss can do with the parts of the baseline's answer
        that `answers` keeps.
    """

    loss_fn: LossFn
    needs_baseline: bool
    takes_answers: bool = False


def make_method(name: str, config: ConfigDict) -> Method:
    """Builds a method by its name in `config.methods`.

    Args:
      name: One of the names that `configs/default.py` lists at `config.methods`, one of
        `config.variants`, or the import path of a loss of the user's own; see `_own`.
      config: The whole config. Its `loss` and what is named like a method are read; a
        method sees all of it but the seed, frozen.

    Returns:
      The method.

    Raises:
      UserError: The name is unknown, or nothing can be imported under it.
    """
    if is_own(name):
        return _own(name)
    variants = read_variants(config, METHODS)
    if name in variants:
        name, setting = variants[name]
        config = with_values(config, setting)
    if name not in METHODS:
        raise unknown_name("config.methods", name, [*METHODS, *variants])
    # Not the seed, so that all seeds of a comparison share a function.
    read = {key: value for key, value in config.items() if key != "seed"}
    return _make(METHODS[name], FrozenConfigDict(read))


@made_once
def _make(make: Callable[[ConfigDict], Method], config: FrozenConfigDict) -> Method:
    return make(config)


def _cross_entropy(config: ConfigDict) -> Method:
    """Plain (re)training on the labels."""
    del config

    def loss_fn(
        logits: Array, baseline_logits: None, labels: Array, epoch: ArrayLike = OVER
    ) -> Terms:
        del baseline_logits, epoch
        return {"loss": _cross_entropy_of(logits, labels)}

    return Method(loss_fn, needs_baseline=False)


def _label_smoothing(config: ConfigDict) -> Method:
    """Szegedy et al. 2016 (arXiv 1512.00567), section 7."""
    smoothing = config.loss.label_smoothing

    def loss_fn(
        logits: Array, baseline_logits: None, labels: Array, epoch: ArrayLike = OVER
    ) -> Terms:
        del baseline_logits, epoch
        if labels.ndim == 1:
            labels = jax.nn.one_hot(labels, logits.shape[-1])
        targets = optax.smooth_labels(labels, smoothing)
        return {"loss": optax.softmax_cross_entropy(logits, targets)}

    return Method(loss_fn, needs_baseline=False)


def _distillation(config: ConfigDict) -> Method:
    """Hinton et al. 2015: `(1 - w) CE + w T^2 KL`; the baseline is the teacher."""
    temperature, weight = config.distillation.temperature, config.distillation.weight

    def soft_fn(logits: Array, baseline_logits: Array, labels: Array) -> Array:
        del labels
        return losses.distillation_loss(
            logits, baseline_logits, temperature=temperature
        )

    return _distilling(soft_fn, hard=1 - weight, soft=weight)


def _dkd(config: ConfigDict) -> Method:
    """Decoupled distillation, CVPR 2022, beside a cross-entropy of its own weight.

    As in the authors' code, the weight of the distillation grows over the first epochs,
    in equal parts, one at the start of each.
    """
    dkd = config.dkd

    def soft_fn(logits: Array, baseline_logits: Array, labels: Array) -> Array:
        return losses.decoupled_distillation_loss(
            logits,
            baseline_logits,
            labels,
            temperature=dkd.temperature,
            target_weight=dkd.target_weight,
            non_target_weight=dkd.non_target_weight,
        )

    return _distilling(
        soft_fn, hard=dkd.cross_entropy_weight, warmup_epochs=dkd.warmup_epochs
    )


def _logit_standardisation(config: ConfigDict) -> Method:
    """Distillation of standardised logits, CVPR 2024, with the authors' weights."""
    chosen = config.logit_standardisation

    def soft_fn(logits: Array, baseline_logits: Array, labels: Array) -> Array:
        del labels
        return losses.standardised_distillation_loss(
            logits, baseline_logits, temperature=chosen.temperature
        )

    return _distilling(soft_fn, hard=chosen.cross_entropy_weight, soft=chosen.weight)


def _dist(config: ConfigDict) -> Method:
    """Distillation of correlations, NeurIPS 2022, beside the cross-entropy."""
    dist = config.dist

    def soft_fn(logits: Array, baseline_logits: Array, labels: Array) -> Array:
        del labels
        return losses.correlation_distillation_loss(
            logits,
            baseline_logits,
            temperature=dist.temperature,
            inter_weight=dist.inter_weight,
            intra_weight=dist.intra_weight,
        )

    return _distilling(soft_fn, hard=dist.cross_entropy_weight)


def _born_again(config: ConfigDict) -> Method:
    """Furlanello et al. 2018 (arXiv 1805.04770): the baseline's answer is the label.

    The labels themselves are left out, as in the authors' BAN; with a weight for them
    it is their BAN+L.
    """

    def soft_fn(logits: Array, baseline_logits: Array, labels: Array) -> Array:
        del labels
        return losses.distillation_loss(logits, baseline_logits, temperature=1.0)

    return _distilling(soft_fn, hard=config.born_again.cross_entropy_weight)


def _teacher_free(config: ConfigDict) -> Method:
    """Tf-KD, CVPR 2020: `(1 - w) CE + w KL` from a teacher that is made up."""
    chosen = config.teacher_free

    def soft_fn(logits: Array, baseline_logits: None, labels: Array) -> Array:
        del baseline_logits
        return losses.virtual_teacher_loss(
            logits,
            labels,
            temperature=chosen.temperature,
            correct_probability=chosen.correct_probability,
        )

    weight = chosen.weight
    return _distilling(soft_fn, hard=1 - weight, soft=weight, needs_baseline=False)


def _distilling(
    soft_fn: Callable[[Array, Any, Array], Array],
    *,
    hard: float,
    soft: float = 1.0,
    warmup_epochs: float = 0.0,
    needs_baseline: bool = True,
) -> Method:
    """A weighted sum of the cross-entropy with the labels and of a teacher's term.

    The weight of the teacher's term grows over `warmup_epochs`, in equal parts, one at
    the start of each.
    """

    def loss_fn(
        logits: Array, baseline_logits: Any, labels: Array, epoch: ArrayLike = OVER
    ) -> Terms:
        of_labels = _cross_entropy_of(logits, labels)
        of_teacher = soft_fn(logits, baseline_logits, labels)
        weight: ArrayLike = soft
        if warmup_epochs:
            weight = soft * jnp.minimum((jnp.floor(epoch) + 1) / warmup_epochs, 1)
        loss = hard * of_labels + weight * of_teacher
        return {"loss": loss, "cross_entropy": of_labels, "distillation": of_teacher}

    return Method(loss_fn, needs_baseline)


def _clone(
    config: ConfigDict,
    *,
    difference: bool = True,
    attention: bool = True,
    negentropy: bool = True,
) -> Method:
    """The focusing-picking loss of ClonalNet, whole or without one of its terms.

    Without the difference, the classification term is the label-smoothed cross-entropy
    of the clone's own logits.
    """
    alpha = config.loss.attention_weight if attention else 0.0
    beta = config.loss.negentropy_weight if negentropy else 0.0
    smoothed = _label_smoothing(config).loss_fn

    def loss_fn(
        logits: Array,
        baseline: Array | Answers,
        labels: Array,
        epoch: ArrayLike = OVER,
    ) -> Terms:
        del epoch
        given = baseline if isinstance(baseline, Answers) else Answers(baseline)
        terms = losses.focusing_picking_terms(
            logits,
            given.logits,
            labels,
            confusing=given.confusing,
            temperature=config.loss.temperature,
            label_smoothing=config.loss.label_smoothing,
        )
        if not difference:
            plain = smoothed(logits, None, labels, OVER)["loss"]
            terms = terms._replace(classification=plain)
        loss = terms.classification + alpha * terms.attention + beta * terms.negentropy
        return {"loss": loss, **terms._asdict()}

    return Method(loss_fn, needs_baseline=True, takes_answers=True)


def _own(name: str) -> Method:
    """A loss that somebody else has written: `(logits, baseline_logits, labels)`.

    It gives a loss for each example, or named terms of which one is `loss`. The labels
    are integers `[b]` or, with mixup, distributions `[b, c]`. If it has a parameter
    `epoch`, it is given the number of epochs that are done.
    """
    expected = "a function (logits, baseline_logits, labels) -> loss of each example"
    function = find_own(name, what="config.methods", expected=expected)
    scheduled = "epoch" in inspect.signature(function).parameters

    def loss_fn(
        logits: Array, baseline_logits: Array, labels: Array, epoch: ArrayLike = OVER
    ) -> Terms:
        more = {"epoch": epoch} if scheduled else {}
        given = function(logits, baseline_logits, labels, **more)
        terms = dict(given) if isinstance(given, Mapping) else {"loss": given}
        shapes = {key: jnp.shape(term) for key, term in terms.items()}
        if "loss" not in shapes or set(shapes.values()) != {logits.shape[:-1]}:
            raise UserError(
                f"config.methods {name}",
                got=f"terms of these shapes: {shapes}",
                expected=f"a loss of each example, of shape {logits.shape[:-1]}; or a "
                "dict of such, one of them 'loss'",
                remedy="do not take the mean: the program does",
            )
        return terms

    return Method(loss_fn, needs_baseline=True)


def _cross_entropy_of(logits: Array, labels: Array) -> Array:
    """Per example. Labels are integers `[b]` or, with mixup, distributions `[b, c]`."""
    if labels.ndim == logits.ndim:
        return optax.softmax_cross_entropy(logits, labels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


METHODS: dict[str, Callable[[ConfigDict], Method]] = {
    "clone": _clone,
    "clone_without_difference": functools.partial(_clone, difference=False),
    "clone_without_attention": functools.partial(_clone, attention=False),
    "clone_without_negentropy": functools.partial(_clone, negentropy=False),
    "cross_entropy": _cross_entropy,
    "label_smoothing": _label_smoothing,
    "distillation": _distillation,
    "dkd": _dkd,
    "logit_standardisation": _logit_standardisation,
    "dist": _dist,
    "born_again": _born_again,
    "teacher_free": _teacher_free,
}
"""The function that builds each method, by its name in `config.methods`."""
