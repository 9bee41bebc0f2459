"""A detector: models and scorers fitted, chosen and calibrated on normal images, saved and used."""
