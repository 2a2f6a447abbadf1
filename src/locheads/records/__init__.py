"""The files of a run folder as typed values: one model per file, which writes it and reads it back."""
