"""Which folders are installed, and where: ./trainers, ./datasets and ./configs inside varprompt.

`datasets` is also Hugging Face's package and `trainers` CoOp's, so neither is installed under
its own name. Everything else is in pyproject.toml.
"""

from setuptools import find_namespace_packages, setup

MAPPED = {f"varprompt.{folder}": folder for folder in ("trainers", "datasets", "configs", "tools")}


def packages() -> list[str]:
    """All packages under the names they are installed by (folders of data count as packages)."""
    hidden = ["*__pycache__*"]
    found = find_namespace_packages(include=["varprompt", "varprompt.*"], exclude=hidden)
    for name, folder in MAPPED.items():
        inner = find_namespace_packages(folder, exclude=hidden)
        found += [name, *(f"{name}.{package}" for package in inner)]
    return found


DATA = ["py.typed", "*.yaml", "*.csv", "*.json", "*.npz", "*.safetensors", "*.md", "*.txt"]
DATA += ["*.css", "*.js"]
setup(packages=packages(), package_dir=MAPPED, package_data={"": DATA})
