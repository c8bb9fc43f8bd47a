"""Training: data preparation, latent alignment, models, loops. Needs the `train` extra."""
