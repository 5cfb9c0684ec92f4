"""ImageNet-Sketch (Wang et al. 2019): drawings of ImageNet's classes."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet_family import CLASSNAMES, CLASSNAMES_SOURCE, ImageNetTestSet


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetTestSet):
    """1000 classes, for testing only."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    sources = {
        "images/": "https://github.com/HaohanWang/ImageNet-Sketch",
        CLASSNAMES: CLASSNAMES_SOURCE,
    }
    sizes = (None, None, 50889)
    n_classes = 1000
