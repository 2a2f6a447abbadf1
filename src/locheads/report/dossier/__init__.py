"""The dossier of a run: what a reviewer asks of it, answered from its records alone, as Markdown and as HTML."""
