"""What goes with a run to its reviewers and into a paper, from its records alone: the dossier, which says what holds,
what to ask about and what is not known; the methods in words; the files with their checksums; the tables as LaTeX."""
