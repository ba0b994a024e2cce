"""Files of models and weights."""
