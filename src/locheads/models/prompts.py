"""The text around the picture and the expression."""

from locheads.config import PromptConfig
from locheads.errors import DataError

IMAGE = "<image>"
"""Where the picture goes in `prompt.template`, whatever the model's own image token is called."""


def render_prompt(prompt: PromptConfig, expression: str) -> str:
    """The template with the expression in place; `<image>` stays for the adapter to fill.

    Raises:
        DataError: the expression is empty or blank, or holds the picture's placeholder.
    """
    text = " ".join(expression.split())
    if not text:
        raise DataError("The expression is empty: there is nothing to ground.")
    if IMAGE in text:
        raise DataError(f"The expression holds {IMAGE}, which stands for the picture: take it out.")
    if prompt.full_stop and text[-1] not in ".?!":
        text += "."
    # Plain replacement, not str.format: an expression may hold braces, and so may a user's template.
    return prompt.template.replace("{expression}", text)
