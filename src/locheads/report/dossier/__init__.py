"""What goes with a run into a paper: its tables, the methods in words, and the files with their checksums."""
