"""From a box to a mask: reference segmenters and SAM, behind one interface."""
