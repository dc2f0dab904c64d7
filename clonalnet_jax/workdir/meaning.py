"""What a config means: which keys shape a run, and a name for what they say."""

import hashlib
import json
from typing import Any

from ml_collections import ConfigDict

from clonalnet_jax.configs import default
from clonalnet_jax.workdir.files import flatten

# What a user may change between two starts without changing what a run means.
FREE_KEYS = (
    "baseline.cache_dir",
    "baseline.min_top1",
    "checkpoint_every_epochs",
    "compare.methods",
    "compare.seeds",
    "data.max_pixels",
    "data.on_device",
    "data.on_error",
    "data.threads",
    "data.workers",
    "debug_nans",
    "deterministic",
    "log_every_steps",
    "methods",
    "partition.fsdp",
    "partition.model",
    "plan.find_batch",
    "plan.programs",
    "plan.train_images",
    "profile_steps",
    "steps_per_call",
    "tune.budget",
    "tune.holdout",
    "tune.methods",
    "tune.search",
    "tune.seeds",
    "tune.space",
    "watchdog_minutes",
)


def changed_meaning(saved: dict[str, Any], resolved: dict[str, Any]) -> list[str]:
    """Says which keys that shape a run differ between two configs.

    Args:
      saved: The config of before, as JSON holds it.
      resolved: The config of now, as JSON holds it.

    Returns:
      A text such as `config.seed: 0 -> 1` for each such key, in order.
    """
    before, now = flatten(saved), flatten(resolved)
    return [
        f"config.{key}: {before.get(key, 'absent')!r} -> {now.get(key, 'absent')!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in FREE_KEYS
    ]


def name_experiment(config: ConfigDict) -> str:
    """Names what a config means, so that a run of another one is known from afar.

    Args:
      config: The resolved config.

    Returns:
      The seed, and a digest of all keys that shape a run and are not at their default.
      So a key that a later version adds changes no name.
    """
    known = _values(default.get_config())
    shaping = {
        key: value
        for key, value in sorted(_values(config).items())
        if key not in FREE_KEYS and (key not in known or known[key] != value)
    }
    count = shaping.get("data.holdout", 0.5)
    if count >= 1:
        # It was a whole number before it could be a share.
        shaping["data.holdout"] = int(count)
    digest = hashlib.sha256(json.dumps(shaping).encode()).hexdigest()[:12]
    return f"seed {config.seed}, config {digest}"


def _values(config: ConfigDict) -> dict[str, Any]:
    return flatten(json.loads(config.to_json_best_effort()))
