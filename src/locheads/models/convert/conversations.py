"""The original conversation templates, as chat templates of the converted processors.

From the `conversation.py` of each model's own repository. A user's message is the picture and the text after a line
break, as their inference scripts put it. conf/prompt holds the same texts as prompts of their own.
"""

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

_MESSAGE = (
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}PICTURE\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
)


def _template(system: str, user: str, assistant: str) -> str:
    """`user` holds MESSAGE where the message goes; `assistant` begins the answer."""
    each = user.replace("MESSAGE", _MESSAGE)
    loop = "{% for message in messages %}" + each + "{% endfor %}"
    return system + loop + "{% if add_generation_prompt %}" + assistant + "{% endif %}"


CONVERSATIONS = {
    "llava_v1": _template(CURIOUS_HUMAN + " ", "USER: MESSAGE ", "ASSISTANT:"),
    "vicuna_v1": _template(CURIOUS_USER + " ", "USER: MESSAGE ", "ASSISTANT:"),
    "llava_v0": _template(CURIOUS_HUMAN + "###", "Human: MESSAGE###", "Assistant:"),
    "yi_vl": _template(YI + "\n\n### ", "Human: MESSAGE\n### ", "Assistant:"),
    "gemma": _template("", "<start_of_turn>user\nMESSAGE<end_of_turn>\n", "<start_of_turn>model\n"),
}
"""Name -> template, with PICTURE for the picture's token and what stands around it. One question, no history."""


def chat_template(name: str, picture: str) -> str:
    """The template with the picture's text in place. Raises ModelError for an unknown name."""
    if name not in CONVERSATIONS:
        raise ModelError(f"--conversation {name} is unknown: there are {', '.join(CONVERSATIONS)}.")
    return CONVERSATIONS[name].replace("PICTURE", picture)
