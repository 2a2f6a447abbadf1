"""The embedded default: synthetic scenes, a small LLaVA trained on them from scratch, its weights."""
