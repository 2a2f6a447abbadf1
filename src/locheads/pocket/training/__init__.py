"""How the pocket model is trained, and the evidence for what it can do. Nothing here runs in a run."""
