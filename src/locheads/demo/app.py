"""The demo: what it shows for an image and an expression, and its page in Gradio."""

import html
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from jaxtyping import Float
from PIL import Image

from locheads.absence.absence_scores import scores_of_one
from locheads.api import Grounder
from locheads.demo.found import ZOOM, Asked, Found, after_second_look, one_object, several_objects
from locheads.errors import ConfigError, DataError, LocHeadsError
from locheads.geometry import Geometry
from locheads.grounding.config import GroundingConfig
from locheads.grounding.zoom import Look, seen_in
from locheads.pocket.language import sample_expression
from locheads.pocket.render import render
from locheads.pocket.scenes import sample_scene
from locheads.report.draw_sample import Tile
from locheads.report.theme import LOOKED_AT, PREDICTED_BOX

BUTTONS = ["fullscreen", "download"]
"""Of each image; by default Gradio offers to publish it, too."""
MISSING = "The demo needs Gradio, which is not installed: run make install EXTRAS=demo."
EXAMPLE_SEED = 7
AGAIN = ", second look"
SIDE = 960
"""Pixels of a drawn image's long side, at most."""


@dataclass(frozen=True)
class DemoResult:
    """For the eyes: every image has the uploaded one's size, but for a long side of at most SIDE."""

    fused: Image.Image
    """The sum of the heads' maps, and the boxes; in a thin frame what a second look saw."""
    mask: Image.Image
    heads: list[tuple[Image.Image, str]]
    """Each head's own map and name, of every look."""
    text: str
    """The answer, and on a line of its own the scores of absence."""


class DemoGrounder:
    """Asks the model once per question, and once more per smoothing of it for a second look: all else of the same
    question reads the maps that are there."""

    def __init__(self, grounder: Grounder) -> None:
        self._grounder = grounder
        self._question: tuple[bytes, tuple[int, int], str] | None = None
        self._maps: tuple[Float[np.ndarray, "head row col"], Geometry] | None = None
        self._looks: dict[float, list[Look]] = {}
        """Of the question, by sigma, on which the window depends."""

    def __call__(
        self, image: Image.Image | None, expression: str, sigma: float, asked: Asked = Asked.one
    ) -> DemoResult:
        """Raises DataError without an image or an expression, and what the model raises."""
        if image is None:
            raise DataError("There is no image: upload one first.")
        if not expression.strip():
            raise DataError("There is no expression: type what to look for, such as: the red circle")
        image = image.convert("RGB")
        maps, geometry = self._of(image, expression)
        config = GroundingConfig(sigma=sigma)
        found, looks = self._answer(image, expression, Look.first(maps, geometry, config), asked)
        names = [str(head) for head in self._grounder.heads]
        return DemoResult(
            fused=drawn(image, found),
            mask=_tile(image).mask(found.mask).image,
            heads=[head for look in looks for head in _heads(image, look, names, "" if look is looks[0] else AGAIN)],
            text=f"{' + '.join(names)}: {found.text}\n{_absence(scores_of_one(maps, config))}",
        )

    def _of(self, image: Image.Image, expression: str) -> tuple[Float[np.ndarray, "head row col"], Geometry]:
        question = image.tobytes(), image.size, expression
        if self._maps is None or question != self._question:
            self._maps, self._question = self._grounder.maps(image, expression), question
            self._looks = {}
        return self._maps

    def _answer(self, image: Image.Image, expression: str, first: Look, asked: Asked) -> tuple[Found, list[Look]]:
        match asked:
            case Asked.one:
                return one_object(first, *image.size), [first]
            case Asked.several:
                return several_objects(first), [first]
            case Asked.second_look:
                looks = self._again(image, expression, first)
                return after_second_look(looks, *image.size), looks
            case _:
                assert_never(asked)

    def _again(self, image: Image.Image, expression: str, first: Look) -> list[Look]:
        sigma = first.stack.config.sigma
        if sigma not in self._looks:
            self._looks[sigma] = self._grounder.looks(image, expression, first, ZOOM)
        return self._looks[sigma]


def drawn(image: Image.Image, found: Found) -> Image.Image:
    """The map over the grey image, and on it the boxes and the window."""
    tile = over(image, found.heat, found.geometry)
    if found.window is not None:
        tile.box(found.window, LOOKED_AT, dashed=True, thin=True)
    for box in found.boxes:
        tile.box(box, PREDICTED_BOX)
    return tile.image


def _heads(image: Image.Image, look: Look, names: list[str], which: str) -> list[tuple[Image.Image, str]]:
    """Each head's map of a look, and its name with which look it is."""
    geometry = seen_in(look.geometry, look.view, *image.size)
    assert look.stack.maps is not None  # of a look that was taken, not of a mean of several
    pairs = zip(look.stack.maps[0], names, strict=True)
    return [(over(image, one, geometry).image, name + which) for one, name in pairs]


def over(image: Image.Image, heat: Float[np.ndarray, "row col"], geometry: Geometry) -> Tile:
    """A heat map over the grey image, with the same colours as in the report."""
    x0, y0, x1, y1 = geometry.to_pixels(np.array([0, 0, geometry.cols, geometry.rows])).tolist()
    return _tile(image, grey=True).heat(heat, (x0, y0, x1, y1))


def _tile(image: Image.Image, grey: bool = False) -> Tile:
    side = min(SIDE, max(image.size))
    return Tile(image, image.size, (side, side), grey=grey)


def _absence(scores: Mapping[str, float]) -> str:
    listed = ", ".join(f"{name} {score:z.3f}" for name, score in scores.items())
    return f"Absence from 0 to 1 (1: nothing speaks for an object): {listed}."


def example() -> tuple[Image.Image, str]:
    """An image of the pocket world that the pocket model was not trained on, and an expression for it."""
    scene = sample_scene(EXAMPLE_SEED)
    return Image.fromarray(render(scene)), sample_expression(scene, 0, np.random.default_rng(EXAMPLE_SEED)).text


def import_gradio() -> Any:
    """The module, with its report of use switched off. Raises ConfigError with the pip command where it is absent."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise ConfigError(MISSING) from error
    return gradio


def build(answers: DemoGrounder, title: str, example: tuple[Image.Image, str] | None = None) -> Any:
    """The page as gradio.Blocks; `example`: image and expression that it opens with."""
    gr = import_gradio()

    def ask(image: Image.Image | None, expression: str, asked: str, sigma: float) -> tuple[Any, ...]:
        try:
            answer = answers(image, expression, sigma, Asked(asked))
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
                asked = gr.Radio([one.value for one in Asked], value=Asked.one.value, label="Answer with")
                sigma = gr.Slider(0, 4, 1, step=0.1, label="Smoothing (sigma, in cells)")
                button = gr.Button("Ground", variant="primary")
            with gr.Column():
                line = gr.Textbox(label="Answer", interactive=False)
                fused = gr.Image(label="Sum of the heads' maps, and the answer", interactive=False, buttons=BUTTONS)
                mask = gr.Image(label="Mask", interactive=False, buttons=BUTTONS)
        heads = gr.Gallery(label="Single heads", columns=4, height="auto", buttons=BUTTONS)
        inputs, outputs = [shown, text, asked, sigma], [line, fused, mask, heads]
        for event in (button.click, text.submit, asked.input, sigma.release):
            event(ask, inputs, outputs, api_name=False)
    return page
