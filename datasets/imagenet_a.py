"""ImageNet-A (Hendrycks et al. 2021): photographs that mislead classifiers."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet_family import CLASSNAMES, CLASSNAMES_SOURCE, PartOfImageNet


@DATASET_REGISTRY.register()
class ImageNetA(PartOfImageNet):
    """200 of ImageNet's classes, for testing only."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    sources = {
        "imagenet-a/": "https://github.com/hendrycks/natural-adv-examples",
        CLASSNAMES: CLASSNAMES_SOURCE,
    }
    sizes = (None, None, 7500)
    n_classes = 200
