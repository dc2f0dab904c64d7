"""The program: `clonalnet-jax`, `python -m clonalnet_jax` and `python main.py`."""

from clonalnet_jax.runtime.keyboard import leave_on_interrupt


def main() -> None:
    """Runs the program and exits with its code."""
    leave_on_interrupt()
    # Imported after that, since a Ctrl-C may come at once.
    from clonalnet_jax import modes
    from clonalnet_jax.command import start

    start(
        modes.main,
        takes_arguments=lambda: modes.MODE.value == "predict",
        config_in=modes.workdir_with_config,
    )


if __name__ == "__main__":
    main()
