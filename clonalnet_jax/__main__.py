"""`python -m clonalnet_jax`, which is `clonalnet-jax`."""

from clonalnet_jax.command import main

if __name__ == "__main__":
    main()
