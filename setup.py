"""Packaging: ./varprompt, with ./trainers and ./datasets installed inside it.

`datasets` is also Hugging Face's package and `trainers` CoOp's, so neither is installed under
its own name. The bounds below are wide in order not to replace a working torch; what is tested
is what requirements.txt pins.
"""

from setuptools import find_namespace_packages, setup

MAPPED = {"varprompt.trainers": "trainers", "varprompt.datasets": "datasets"}


def packages() -> list[str]:
    """All packages under the names they are installed by (folders of data count as packages)."""
    hidden = ["*__pycache__*"]
    found = find_namespace_packages(include=["varprompt", "varprompt.*"], exclude=hidden)
    for name, folder in MAPPED.items():
        inner = find_namespace_packages(folder, exclude=hidden)
        found += [name, *(f"{name}.{package}" for package in inner)]
    return found


setup(
    name="varprompt",
    version="0.1.0",
    description="Variational prompt tuning for CLIP, as trainers for Dassl and CoOp",
    author="The varprompt authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=packages(),
    package_dir=MAPPED,
    package_data={"": ["*.yaml", "*.csv", "*.json", "*.npz", "*.safetensors", "*.md", "*.txt"]},
    zip_safe=False,
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "clip-anytorch>=2.6",
        "setuptools<70",  # clip imports pkg_resources.packaging
        "yacs>=0.1.8",
        "PyYAML>=6",
        "tabulate>=0.9",
        "ftfy>=6.1",
        "regex",
        "tqdm>=4.60",
        "tensorboard>=2.10",
        "numpy>=1.26",
        "scipy>=1.11",
        "scikit-learn>=1.3",
        "pillow>=10",
        "matplotlib>=3.8",
        "safetensors>=0.4",
        "filelock>=3.12",
        "rich>=13",
        "packaging>=23",
    ],
)
