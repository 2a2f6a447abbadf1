"""One attention pass by many workers: who does what, and who takes over when one of them dies."""
