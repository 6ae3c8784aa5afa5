"""How weights are stepped: precision, groups of weights, several optimizers, steps that are not finite."""
