"""The head explorer: any head, any sample, every step from map to box, in the browser."""
