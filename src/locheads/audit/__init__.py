"""Every combination of choices after the attention pass, measured on the same samples from the store."""
