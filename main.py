"""Trains a baseline, its clone and the controls that a config asks for.

python main.py --config=configs/digits.py

The program is `clonalnet-jax` of the installed package; see clonalnet_jax/__main__.py.
"""

from clonalnet_jax.__main__ import main

if __name__ == "__main__":
    main()
