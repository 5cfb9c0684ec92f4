"""ImageNet-R (Hendrycks et al. 2021): paintings, toys and other renditions."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet_family import CLASSNAMES, CLASSNAMES_SOURCE, PartOfImageNet


@DATASET_REGISTRY.register()
class ImageNetR(PartOfImageNet):
    """200 of ImageNet's classes, for testing only."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    sources = {
        "imagenet-r/": "https://github.com/hendrycks/imagenet-r",
        CLASSNAMES: CLASSNAMES_SOURCE,
    }
    sizes = (None, None, 30000)
    n_classes = 200
