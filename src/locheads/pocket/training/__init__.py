"""How the pocket model is trained, and what it is said to be able to do. Nothing here runs in a run."""
