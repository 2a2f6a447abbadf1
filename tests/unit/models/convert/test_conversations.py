"""The original conversations, as chat templates and as prompts of their own."""

from pathlib import Path

import pytest
import yaml
from transformers.utils.chat_template_utils import render_jinja_template

from locheads.models.config import PromptConfig
from locheads.models.convert.original_tokenizers import CONVERSATIONS, chat_template
from locheads.models.prompts import prompt_text

HUMAN = "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the human's questions."  # noqa: E501
USER = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions."  # noqa: E501
YI = "This is a chat between an inquisitive human and an AI assistant. Assume the role of the AI assistant. Read all the images carefully, and respond to the human's questions with informative, helpful, detailed and polite answers. 这是一个好奇的人类和一个人工智能助手之间的对话。假设你扮演这个AI助手的角色。仔细阅读所有的图像，并对人类的问题做出信息丰富、有帮助、详细的和礼貌的回答。"  # noqa: E501, RUF001
DEEPSEEK = "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language."  # noqa: E501
EXPECTED = {
    "llava_v1": HUMAN + " USER: <image>\nthe cup. ASSISTANT:",
    "vicuna_v1": USER + " USER: <image>\nthe cup. ASSISTANT:",
    "llava_v0": HUMAN + "###Human: <image>\nthe cup.###Assistant:",
    "yi_vl": YI + "\n\n### Human: <image>\nthe cup.\n### Assistant:",
    "deepseek_vl": DEEPSEEK + "\n\nUser: <image>the cup.\n\nAssistant:",
    "mini_gemini": "<start_of_turn>user\n<image>\nthe cup.<end_of_turn>\n<start_of_turn>model\n",
}
CONF = Path(__file__).parents[4] / "conf"


def rendered(name: str, image: str) -> str:
    parts = [{"type": "image"}, {"type": "text", "text": "the cup."}]
    chat = [[{"role": "user", "content": parts}]]
    template = chat_template(name, image)
    return render_jinja_template(conversations=chat, chat_template=template, add_generation_prompt=True)[0][0]


@pytest.mark.parametrize("name", list(CONVERSATIONS))
def test_chat_templates_are_the_originals(name: str) -> None:
    assert rendered(name, "<image>") == EXPECTED[name]
    around = "<im_start><image><im_end>"
    assert rendered(name, around) == EXPECTED[name].replace("<image>", around)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_prompts_of_the_same_name_are_the_same_text(name: str) -> None:
    settings = yaml.safe_load((CONF / "prompt" / f"{name}.yaml").read_text())
    assert settings.pop("name") == name
    assert prompt_text(PromptConfig(name=name, **settings), "the cup").text == EXPECTED[name]


ROWS = {
    "DeepSeek-VL-1.3B": "deepseek_vl_1_3b", "Mini-Gemini-2B": "mini_gemini_2b", "InternVL-6B": "internvl_6b",
    "Yi-VL-6B": "yi_vl_6b", "DeepSeek-VL-7B": "deepseek_vl_7b", "ShareGPT4V-7B": "sharegpt4v_7b",
    "LLaVA-7B": "llava_7b", "LLaVA-1.5-7B": "llava_1_5_7b", "LLaVA-13B": "llava_13b",
    "LLaVA-1.5-13B": "llava_1_5_13b",
}  # fmt: skip
"""The paper's rows -> model=NAME."""


@pytest.mark.parametrize("row", list(ROWS))
def test_every_row_of_the_paper_has_a_model_that_says_so(row: str) -> None:
    text = (CONF / "model" / f"{ROWS[row]}.yaml").read_text()
    comment = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert f"row {row}" in comment.replace("\n# ", " ")
    assert "nown" in comment and ("licence" in comment or "MIT" in comment)
    # Either the hub's, or made by the converter with the command in the comment.
    settings = yaml.safe_load(text)
    assert settings["name"] == ROWS[row]
    assert "converted/" not in settings["id"] or ("models.convert" in comment and settings["name"] in comment)
