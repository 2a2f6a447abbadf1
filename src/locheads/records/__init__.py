"""One typed model per file of a run folder: the run writes the file by it, and whoever reads the folder back, too."""
