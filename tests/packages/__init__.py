"""From other packages' own models to maps."""
