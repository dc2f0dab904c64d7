"""Lists every network with its size: `python -m clonalnet_jax.models`."""

from typing import Any, cast

from rich.console import Console
from rich.table import Table

from clonalnet_jax.models import create_model, model_names, native_size
from clonalnet_jax.models.sizes import SIZES


def main() -> None:
    """Prints the table; no network is built, so that it takes no time."""
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
        known = cast(Any, create_model(name, 2)).options
        options.setdefault(known, []).append(name)
    console = Console()
    console.print(table)
    for known, names in options.items():
        console.print(f"Options of {', '.join(names)}: {', '.join(known) or 'none'}.")


def _row(name: str) -> list[str]:
    side, size = native_size(name), SIZES[name]
    return [
        name,
        f"{side}x{side}",
        "1000" if side == 224 else "100",
        f"{size.parameters / 1e6:.2f}",
        f"{size.multiply_adds / 1e9:.3f}",
    ]


if __name__ == "__main__":
    main()
