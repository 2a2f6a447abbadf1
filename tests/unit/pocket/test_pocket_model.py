import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

from locheads.pocket.batches import IDS, PATCHES, PREFIX, Batch, Task, make_batch, normalise, pack
from locheads.pocket.dataset import split_scenes
from locheads.pocket.forward import answer_logits, block_mask, keep_patches
from locheads.pocket.language import Exchange, describe
from locheads.pocket.model import WEIGHTS, build_model, load_model
from locheads.pocket.probe import answer_accuracy, observe
from locheads.pocket.render import pad_to_square, render
from locheads.pocket.tokenizer import SYSTEM

EXCHANGES = [
    Exchange("the red circle .", "pink small red circle", "attribute", 0),
    Exchange("how many objects are there ?", "three", "question", None),
]


@pytest.fixture(scope="module")
def shipped():
    return load_model()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(WEIGHTS)


def test_stock_classes_load_the_shipped_files_completely(processor):
    model, info = LlavaForConditionalGeneration.from_pretrained(WEIGHTS, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    text, vision = model.config.text_config, model.config.vision_config
    assert text.num_hidden_layers >= 8 and text.num_attention_heads >= 8
    assert vision.num_hidden_layers == 1 and vision.image_size // vision.patch_size == 24
    assert isinstance(processor, LlavaProcessor)


def test_the_shipped_files_are_small():
    sizes = {path.name: path.stat().st_size for path in WEIGHTS.iterdir()}
    assert "model.safetensors" in sizes and sum(sizes.values()) <= 10_000_000


def test_the_prompt_ends_in_the_full_stop_after_system_line_and_image(processor):
    picture = Image.fromarray(render(split_scenes("val")[0][1]))
    inputs = processor(images=picture, text=f"{SYSTEM}\n<image>\nThe small red circle.", return_tensors="pt")
    words = [*PREFIX, *[IDS["<image>"]] * PATCHES, *(IDS[w] for w in ["the", "small", "red", "circle", "."])]
    assert inputs["input_ids"][0].tolist() == words


@pytest.mark.parametrize("index", range(4))
def test_the_processor_pads_as_training_does(processor, index):
    picture = render(split_scenes("val")[index][1])
    pixels = processor.image_processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
    assert torch.allclose(torch.as_tensor(pixels), normalise(pad_to_square(picture)[None]), atol=1e-5)


def test_the_packed_pass_equals_the_stock_model_on_each_exchange_alone(shipped, processor):
    picture = render(split_scenes("val")[1][1])
    batch = Batch(normalise(pad_to_square(picture)[None]), *pack([EXCHANGES]), [EXCHANGES])
    with torch.no_grad():
        packed, _ = answer_logits(shipped, batch, torch.arange(PATCHES)[None])
        alone = []
        for exchange in EXCHANGES:
            text = f"{SYSTEM}\n<image>\n{exchange.prompt} {exchange.answer}"
            inputs = processor(images=Image.fromarray(picture), text=text, return_tensors="pt")
            alone.append(shipped(**inputs).logits[0, -len(exchange.answer.split()) - 1 :])
    assert torch.allclose(packed, torch.cat(alone), atol=2e-4)


def test_the_block_mask_shows_the_prefix_and_ones_own_segment_only():
    mask = block_mask(torch.tensor([[1, 1, 2, -1]]), prefix=2)[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_dropped_image_tokens_have_no_influence():
    model = build_model(0, layers=2)
    batch = make_batch(Task(scenes=1, exchanges=1), seed=1, step=1)
    kept = keep_patches(1, 40, torch.Generator().manual_seed(0))
    assert kept.shape == (1, 40) and (kept.diff() > 0).all()
    features = model.model.get_image_features(batch.pixels, return_dict=True).pooler_output[0]
    with torch.no_grad():
        before, _ = answer_logits(model, batch, kept)
        changed = features.clone()
        changed[[i for i in range(PATCHES) if i not in kept[0].tolist()]] = 99.0
        model.model.get_image_features = lambda *_, **__: type("Output", (), {"pooler_output": [changed]})
        after, _ = answer_logits(model, batch, kept)
    assert torch.equal(before, after)


def test_batches_follow_from_seed_and_step():
    task = Task(scenes=2, exchanges=3)
    one, same, other = (make_batch(task, 0, step) for step in (7, 7, 8))
    assert torch.equal(one.pixels, same.pixels) and torch.equal(one.tokens, same.tokens)
    assert not torch.equal(one.pixels, other.pixels)


def test_held_out_answers_beat_chance(shipped):
    accuracy = answer_accuracy(observe(shipped, "val", scenes=10, exchanges=10).answers)
    # chance: 1/4 for the first word; 1/4 * 1/2 * 1/6 * 1/3 for a whole answer
    assert accuracy["first_word"] > 0.5
    assert accuracy["attribute"] > 0.1


def test_the_shipped_model_writes_a_description(shipped, processor):
    scene = split_scenes("testA")[0][1]
    item = scene.objects[0]
    text = f"{SYSTEM}\n<image>\nthe {item.size} {item.texture} {item.colour} {item.shape}."
    inputs = processor(images=Image.fromarray(render(scene)), text=text, return_tensors="pt")
    output = shipped.generate(**inputs, max_new_tokens=5, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    words = processor.tokenizer.decode(output, skip_special_tokens=True).split()
    assert len(words) == 4 and words[1:3] == describe(item).split()[1:3]
