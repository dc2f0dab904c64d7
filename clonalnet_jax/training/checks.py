"""Every key of a config, judged before anything is opened.

`RULES` is the table: what each key of `configs/default.py` may hold. Beside it are the
checks of keys that do not go together, and of a config against the data that it names.
"""

from functools import partial

from ml_collections import ConfigDict

from clonalnet_jax.data import keys
from clonalnet_jax.data.dataset import Dataset
from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.models.import_paths import is_frozen, is_own
from clonalnet_jax.rules import (
    LARGEST_COUNT,
    Rule,
    check_table,
    choice,
    different_names,
    flag,
    number,
    options,
    several,
    text,
    whole,
)
from clonalnet_jax.training.methods import METHODS
from clonalnet_jax.training.network_checks import (
    NETWORK,
    check_network,
    check_options,
)
from clonalnet_jax.training.optimizers import OPTIMIZERS, SCHEDULES
from clonalnet_jax.training.variants import read_variants

_DTYPES = ("float32", "bfloat16")
PROGRAMS = ("baseline", "clone", "cached", "evaluation")
"""What `config.plan.programs` may name; see `planning.programs`."""
_YEAR = 525_600  # In minutes. `faulthandler` cannot wait for much longer.

_positive = partial(number, above=0)
_temperature = partial(number, least=0.001, most=1_000)
# A greater weight would hide every other term of a loss, and could become infinite.
_weight = partial(number, least=0, most=1_000_000)
_signed_weight = partial(number, least=-1_000_000, most=1_000_000)
_momentum = partial(number, least=0, below=1)


def _may_be_method(name: object) -> bool:
    """Whether a name may be the user's own; `_check_methods` knows of variants."""
    return is_own(name) or (isinstance(name, str) and name.isidentifier())


RULES: dict[str, Rule] = {
    "seed": keys.SEED,
    "batch_size": whole(1, example=128),
    "epochs": _positive(most=1_000_000, example=30.0),
    "steps": whole(1, example=1_000, optional=True),
    "methods": different_names(METHODS, also=_may_be_method),
    "variants": several(
        text("softer = distillation distillation.temperature=8"),
        example=("softer = distillation distillation.temperature=8",),
    ),
    "compute_dtype": choice(_DTYPES),
    "gradient_dtype": choice(_DTYPES),
    "ema_decay": _momentum(example=0.999),
    "accumulate_steps": whole(1, example=2),
    "steps_per_call": whole(1, example=10),
    "partition.fsdp": flag(),
    "partition.model": whole(1, example=1),
    "watchdog_minutes": number(least=0, most=_YEAR, example=30.0),
    "profile_steps": whole(0, example=5),
    "debug_nans": flag(),
    "deterministic": flag(),
    "log_every_steps": whole(1, example=50),
    "checkpoint_every_epochs": _positive(example=1.0),
    "calibrate": flag(),
    "select": choice(("last", "best")),
    "baseline.model": NETWORK,
    "baseline.options": options(),
    "baseline.checkpoint": text("runs/digits/baseline", optional=True),
    "baseline.weights": text("torchvision:resnet18", optional=True),
    "baseline.weights_key": text("state_dict_ema", empty=True),
    "baseline.replace_head": flag(),
    "baseline.fold_batch_norm": flag(),
    "baseline.compute_dtype": choice(_DTYPES, optional=True),
    "baseline.cache": choice(("none", "views", "images")),
    "baseline.cache_dir": text("/path/to/answers", optional=True),
    "baseline.cache_top_k": whole(1, example=16),
    "baseline.min_top1": number(least=0, most=100, example=60.0, optional=True),
    "clone.model": NETWORK,
    "clone.options": options(),
    "loss.temperature": _temperature(example=2.0),
    "loss.label_smoothing": number(least=0, most=1, example=0.1),
    "loss.attention_weight": _signed_weight(example=1.0),
    "loss.negentropy_weight": _signed_weight(example=1.0),
    "distillation.temperature": _temperature(example=4.0),
    "distillation.weight": number(least=0, most=1, example=0.9),
    "dkd.temperature": _temperature(example=4.0),
    "dkd.warmup_epochs": number(least=0, most=1_000_000, example=20.0),
    "dkd.cross_entropy_weight": _weight(example=1.0),
    "dkd.target_weight": _weight(example=1.0),
    "dkd.non_target_weight": _weight(example=8.0),
    "logit_standardisation.temperature": _temperature(example=2.0),
    "logit_standardisation.cross_entropy_weight": _weight(example=0.1),
    "logit_standardisation.weight": _weight(example=9.0),
    "dist.temperature": _temperature(example=4.0),
    "dist.cross_entropy_weight": _weight(example=1.0),
    "dist.inter_weight": _weight(example=2.0),
    "dist.intra_weight": _weight(example=2.0),
    "born_again.cross_entropy_weight": _weight(example=0.0),
    "teacher_free.temperature": _temperature(example=20.0),
    "teacher_free.weight": number(least=0, most=1, example=0.1),
    "teacher_free.correct_probability": number(above=0, most=1, example=0.99),
    "compare.seeds": whole(1, 10_000, example=5),
    "compare.methods": different_names(METHODS, least=1, also=_may_be_method),
    "plan.train_images": whole(1, example=50_000, optional=True),
    "plan.programs": different_names(PROGRAMS, least=1),
    "plan.find_batch": flag(),
    "tune.methods": different_names(METHODS, least=1),
    "tune.space": several(
        text("loss.temperature=1,2"), example=("loss.temperature=1,2",)
    ),
    "tune.budget": whole(1, 10_000, example=12),
    "tune.search": choice(("grid", "optuna")),
    "tune.seeds": whole(1, 10_000, example=1),
    "tune.holdout": number(above=0, below=1, example=0.2),
    "optimizer.name": choice(OPTIMIZERS),
    "optimizer.learning_rate": _positive(example=0.1),
    "optimizer.momentum": _momentum(example=0.9),
    "optimizer.betas": several(
        _momentum(example=0.9), lengths=(2,), example=(0.9, 0.999)
    ),
    "optimizer.nesterov": flag(),
    "optimizer.weight_decay": number(least=0, example=1e-4),
    "optimizer.decay_vectors": flag(),
    "optimizer.clip_norm": _positive(example=1.0, optional=True),
    "optimizer.schedule": choice(SCHEDULES),
    "optimizer.warmup_epochs": number(least=0, most=1_000_000, example=5.0),
    "optimizer.decay_epochs": several(
        _positive(most=1_000_000, example=30.0), example=(30.0, 60.0)
    ),
    "optimizer.decay_rate": _positive(most=1, example=0.1),
    **{f"data.{key}": rule for key, rule in keys.RULES.items()},
}
"""The rule of every key of a config, by its name without `config.`."""


def check_config(config: ConfigDict) -> None:
    """Refuses a config that is impossible whatever the data and the devices are.

    Nothing is opened, so that every mode of the program can begin with it.

    Args:
      config: The whole config.

    Raises:
      UserError: A key is missing or unknown, a value is impossible, or two of them do
        not go together.
    """
    check_table(config, RULES)
    keys.check_data(config.data)
    for network in ("baseline", "clone"):
        check_options(network, config[network])
    _check_methods(config)
    _check_baseline(config.baseline)
    _check_cache(config)
    if config.select == "best" and not config.data.holdout:
        raise UserError(
            "config.select",
            got="'best' with config.data.holdout = 0",
            expected="training images to pick by: never the data that is reported on",
            remedy="set --config.data.holdout, or --config.select=last",
        )
    if config.data.test_on == "holdout" and (
        config.select == "best" or not config.data.holdout
    ):
        raise UserError(
            "config.data.test_on",
            got=f"'holdout' with config.data.holdout = {config.data.holdout} and "
            f"config.select = {config.select!r}",
            expected="held-out images, by which no checkpoint is picked",
            remedy="set --config.data.holdout and --config.select=last",
        )
    warmup = config.optimizer.warmup_epochs
    # With config.steps, a dry run may end within the warm-up.
    if config.steps is None and warmup and warmup >= config.epochs:
        raise UserError(
            "config.optimizer.warmup_epochs",
            got=f"{warmup} with config.epochs = {config.epochs}",
            expected="a warm-up that is shorter than the run",
            remedy="set a smaller --config.optimizer.warmup_epochs",
        )


def check_with_data(config: ConfigDict, dataset: Dataset, *, num_steps: int) -> None:
    """Refuses a config that does not fit its data.

    Args:
      config: The whole config, which `check_config` has passed.
      dataset: The data set that `config.data` names.
      num_steps: Updates of every run.

    Raises:
      UserError: The batch is larger than the training data, a run has more steps than
        can be counted, or a network does not take such images.
    """
    if config.batch_size > len(dataset.train):
        raise UserError(
            "config.batch_size",
            got=str(config.batch_size),
            expected=f"at most the {len(dataset.train)} training images",
            remedy="set a smaller --config.batch_size or add images",
        )
    if num_steps > LARGEST_COUNT:
        raise UserError(
            "config.epochs",
            got=f"{config.epochs}, which are {num_steps:,} steps",
            expected=f"at most {LARGEST_COUNT:,} steps",
            remedy="set fewer --config.epochs or a larger --config.batch_size",
        )
    check_network("baseline", config.baseline, dataset)
    if (config.clone.model, config.clone.options) != (
        config.baseline.model,
        config.baseline.options,
    ):
        check_network("clone", config.clone, dataset)


def _check_methods(config: ConfigDict) -> None:
    """Refuses methods that nobody knows, and variants with impossible values.

    Raises:
      UserError: A name is unknown, or a variant's line or value is impossible.
    """
    variants = read_variants(config, METHODS)
    for name, variant in variants.items():
        for key, value in variant.setting.items():
            RULES[key].check(f"config.variants {name}: config.{key}", value)
    asked = {"methods": config.methods, "compare.methods": config.compare.methods}
    for key, names in asked.items():
        for name in names:
            if name not in METHODS and name not in variants and not is_own(name):
                known = [*METHODS, *variants]
                raise unknown_name(f"config.{key}", name, known)


def _check_baseline(baseline: ConfigDict) -> None:
    """Refuses a baseline that would come from two places, or half from none.

    Raises:
      UserError: Keys of `config.baseline` do not go together.
    """
    if baseline.checkpoint is not None and baseline.weights is not None:
        raise UserError(
            "config.baseline.checkpoint",
            got="set, and config.baseline.weights, too",
            expected="one of them, or neither to train the baseline",
            remedy="leave one of them out",
        )
    given = next(
        (k for k in ("checkpoint", "weights") if baseline[k] is not None), None
    )
    if is_frozen(baseline.model) and given is not None:
        raise UserError(
            f"config.baseline.{given}",
            got=f"set, and config.baseline.model = {baseline.model!r}, too",
            expected="one of them: a frozen function has its variables with it",
            remedy=f"leave {given} out, or name a network",
        )
    if baseline.replace_head and baseline.weights is None:
        raise UserError(
            "config.baseline.replace_head",
            got="True without config.baseline.weights",
            expected="weights whose classifier is replaced",
            remedy="set --config.baseline.weights, or leave replace_head out",
        )


def _check_cache(config: ConfigDict) -> None:
    """Refuses to answer once for an image what depends on more than the image.

    Raises:
      UserError: `config.baseline.cache` is 'images', and images are mixed or skipped.
    """
    if config.baseline.cache != "images":
        return
    for key in ("mixup_alpha", "cutmix_alpha"):
        if config.data[key]:
            raise UserError(
                "config.baseline.cache",
                got=f"'images' with config.data.{key} = {config.data[key]}",
                expected="images that are not mixed: the answers are to single ones",
                remedy=f"set --config.baseline.cache=views or --config.data.{key}=0",
            )
    if config.data.on_error == "skip":
        raise UserError(
            "config.baseline.cache",
            got="'images' with config.data.on_error = 'skip'",
            expected="an answer for every image",
            remedy="set --config.baseline.cache=views or --config.data.on_error=raise",
        )
