"""`python -m locheads.demo`: a picture and an expression in the browser; the optional extra `demo` (Gradio)."""
