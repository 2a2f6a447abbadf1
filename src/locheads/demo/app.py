"""The demo's page in Gradio. Everything that it computes is in `answers`."""

import html
import os
from typing import Any

from PIL import Image

from locheads.demo.grounded import Answers
from locheads.errors import ConfigError, LocHeadsError

BUTTONS = ["fullscreen", "download"]
"""Of each image; by default Gradio offers to publish it, too."""
MISSING = "The demo needs Gradio, which is not installed: run make install EXTRAS=demo."


def import_gradio() -> Any:
    """The module, told not to report its use. Raises ConfigError with the pip command where it is absent."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise ConfigError(MISSING) from error
    return gradio


def build(answers: Answers, title: str, example: tuple[Image.Image, str] | None = None) -> Any:
    """The page as gradio.Blocks; `example`: image and expression that it opens with."""
    gr = import_gradio()

    def ask(image: Image.Image | None, expression: str, sigma: float) -> tuple[Any, ...]:
        try:
            answer = answers(image, expression, sigma)
        except LocHeadsError as error:
            # Gradio shows it as HTML, and it may quote a path or an expression.
            raise gr.Error(html.escape(str(error))) from error
        return answer.text, answer.fused, answer.mask, answer.heads

    image, expression = example or (None, "")
    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.HTML(f"<h1>{html.escape(title)}</h1>")
        gr.Markdown("An image, and what to look for in it. The model answers with a few of its attention heads.")
        with gr.Row():
            with gr.Column():
                shown = gr.Image(image, type="pil", label="Image", sources=["upload", "clipboard"])
                text = gr.Textbox(expression, label="Expression", placeholder="the cup on the left")
                sigma = gr.Slider(0, 4, 1, step=0.1, label="Smoothing (sigma, in cells)")
                button = gr.Button("Ground", variant="primary")
            with gr.Column():
                line = gr.Textbox(label="Answer", interactive=False)
                fused = gr.Image(label="Sum of the heads' maps, and the box", interactive=False, buttons=BUTTONS)
                mask = gr.Image(label="Mask", interactive=False, buttons=BUTTONS)
        heads = gr.Gallery(label="Single heads", columns=4, height="auto", buttons=BUTTONS)
        inputs, outputs = [shown, text, sigma], [line, fused, mask, heads]
        for event in (button.click, text.submit, sigma.release):
            event(ask, inputs, outputs, api_name=False)
    return page
