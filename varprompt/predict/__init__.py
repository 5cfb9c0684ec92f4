"""From a model and any number of images to classes, probabilities and uncertainty."""
