"""Lists every network with its size: `python -m clonalnet_jax.models`."""

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from clonalnet_jax.models import (
    count_parameters,
    create_model,
    model_names,
    native_size,
)
from clonalnet_jax.models.complexity import count_multiply_adds


def main() -> None:
    """Prints the table. It takes only seconds, because no network is run."""
    table = Table(
        title="Networks of create_model(name, num_classes, **options)",
        caption="GFLOPs: 1e9 multiply-adds of convolutions and matrix products, "
        "one image forward.",
    )
    table.add_column("name", no_wrap=True)
    for column in ("image", "classes", "parameters (M)", "GFLOPs"):
        table.add_column(column, justify="right")
    options: dict[tuple[str, ...], list[str]] = {}
    for name in model_names():
        table.add_row(*_row(name))
        known = create_model(name, 2).options
        options.setdefault(known, []).append(name)
    console = Console()
    console.print(table)
    for known, names in options.items():
        console.print(f"Options of {', '.join(names)}: {', '.join(known) or 'none'}.")


def _row(name: str) -> list[str]:
    size = native_size(name)
    num_classes = 1000 if size == 224 else 100
    model = create_model(name, num_classes)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    return [
        name,
        f"{size}x{size}",
        str(num_classes),
        f"{count_parameters(variables['params']) / 1e6:.2f}",
        f"{count_multiply_adds(model, (size, size, 3)) / 1e9:.3f}",
    ]


if __name__ == "__main__":
    main()
