"""Visual grounding from a few attention heads of a frozen LVLM."""
