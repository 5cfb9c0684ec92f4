"""A classifier of images, with scikit-learn's habits, learned in front of a frozen CLIP."""

from .classifier import PromptClassifier
from .prediction import Prediction, Uncertainty

__all__ = ["Prediction", "PromptClassifier", "Uncertainty"]
