"""`python -m locheads.demo`: an image and an expression in the browser; the optional extra `demo` (Gradio)."""
