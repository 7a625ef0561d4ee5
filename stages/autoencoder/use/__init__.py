"""A trained model in use, from Python: `load_model` gives a `TrainedModel`; a `UserError` says what is wrong in a line.

These three names are public: they stay as they are. No stage imports this package.
"""

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.use.trained_model import TrainedModel, load_model

__all__ = ["TrainedModel", "UserError", "load_model"]
