"""From a forward pass to maps: features of a layer, channel weights, their combination."""
