"""Adds to setup.cfg what it cannot say: the configs' folder, as a part of the package.

The folder lies beside the package, where people look for it, and is installed as
`clonalnet_jax.configs`, so that no package with a name as common as `configs` is.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["clonalnet_jax*"]), "clonalnet_jax.configs"],
    package_dir={"clonalnet_jax.configs": "configs"},
)
