"""ImageNetV2 (Recht et al. 2019), matched frequency: new photographs of ImageNet's classes."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet_family import CLASSNAMES, CLASSNAMES_SOURCE, NumberedImageNet


@DATASET_REGISTRY.register()
class ImageNetV2(NumberedImageNet):
    """1000 classes, for testing only."""

    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    sources = {
        "imagenetv2-matched-frequency-format-val/": "https://github.com/modestyachts/ImageNetV2",
        CLASSNAMES: CLASSNAMES_SOURCE,
    }
    sizes = (None, None, 10000)
    n_classes = 1000
