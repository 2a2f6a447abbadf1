"""The original conversation templates, as chat templates of the converted processors.

From the `conversation.py` of each model's own repository. A user's message is the image, a line break (but for
DeepSeek-VL) and the text, as their inference scripts put it. conf/prompt holds the same texts as prompts of their own.
"""

import json

from locheads.errors import ModelError

CURIOUS_HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
CURIOUS_USER = CURIOUS_HUMAN.replace("human", "user")
YI = (
    "This is a chat between an inquisitive human and an AI assistant. Assume the role of the AI assistant. "
    "Read all the images carefully, and respond to the human's questions with informative, helpful, detailed and "
    "polite answers. "
    "这是一个好奇的人类和一个人工智能助手之间的对话。假设你扮演这个AI助手的角色。"
    "仔细阅读所有的图像，并对人类的问题做出信息丰富、有帮助、详细的和礼貌的回答。"  # noqa: RUF001
)
DEEPSEEK = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)


def _say(text: str) -> str:
    """Text as an expression: Jinja, as transformers sets it, swallows a line break that follows a block."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"


def _template(system: str, before: str, after: str, assistant: str, gap: str = "\n") -> str:
    """`before` and `after` stand around a user's message, `gap` between its image and its text."""
    image = "{% if part['type'] == 'image' %}" + _say("IMAGE" + gap)
    parts = "{% for part in message['content'] %}" + image + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    message = _say(before) + parts + _say(after)
    loop = "{% for message in messages %}" + message + "{% endfor %}"
    return _say(system) + loop + "{% if add_generation_prompt %}" + _say(assistant) + "{% endif %}"


CONVERSATIONS = {
    "llava_v1": _template(CURIOUS_HUMAN + " ", "USER: ", " ", "ASSISTANT:"),
    "vicuna_v1": _template(CURIOUS_USER + " ", "USER: ", " ", "ASSISTANT:"),
    "llava_v0": _template(CURIOUS_HUMAN + "###", "Human: ", "###", "Assistant:"),
    "yi_vl": _template(YI + "\n\n### ", "Human: ", "\n### ", "Assistant:"),
    "deepseek_vl": _template(DEEPSEEK + "\n\n", "User: ", "\n\n", "Assistant:", gap=""),
    "mini_gemini": _template("", "<start_of_turn>user\n", "<end_of_turn>\n", "<start_of_turn>model\n"),
    "im_start": _template("", "<|im_start|>user\n", "<|im_end|>", "<|im_start|>assistant\n"),
    "im_start_lines": _template("", "<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n"),
}
"""Name -> template, with IMAGE for the image's token and what stands around it. One question, no history.

InternVL's (im_start) are without its system message, which changed from release to release.
"""


def chat_template(name: str, image: str) -> str:
    """The template with the image's text in place. Raises ModelError for an unknown name."""
    if name not in CONVERSATIONS:
        raise ModelError(f"--conversation {name} is unknown: there are {', '.join(CONVERSATIONS)}.")
    return CONVERSATIONS[name].replace("IMAGE", image)
