"""What proves, on the machine that has the weights, that a model is read rightly: `stage=verify`."""
