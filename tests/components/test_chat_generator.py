"""LocalChatGenerator: names are resolved at warm-up, the model answers, settings survive."""

import pytest
import torch
from haystack import Pipeline
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice

from trlm_retrieval.components import LocalChatGenerator
from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.loading import choose_dtype

MESSAGES = [ChatMessage.from_user("What is a generator?")]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def chat_folder(make_tiny_lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    lm = make_tiny_lm("forward")
    lm.tokenizer.chat_template = TEMPLATE
    lm.save(folder)
    return str(folder)


def test_replies_with_usage(chat_folder):
    generator = LocalChatGenerator(chat_folder, generation_kwargs={"max_new_tokens": 5})
    [reply] = generator.run(MESSAGES)["replies"]
    assert reply.role == "assistant"
    assert reply.meta["usage"]["completion_tokens"] > 0
    assert generator.run(MESSAGES)["replies"][0].text == reply.text  # no sampling
    longer = generator.run(MESSAGES, {"max_new_tokens": 9, "min_new_tokens": 9})["replies"][0]
    assert longer.text.startswith(reply.text) and len(longer.text) > len(reply.text)


def test_a_checkpoint_in_half_precision_is_computed_in_what_suits_the_cpu(make_tiny_lm, tmp_path):
    lm = make_tiny_lm("forward")
    lm.tokenizer.chat_template = TEMPLATE
    lm.model.half()
    lm.save(tmp_path)
    generator = LocalChatGenerator(str(tmp_path), device=ComponentDevice.from_str("cpu"))
    generator.warm_up()
    assert generator._generator.pipeline.model.dtype == choose_dtype(None, torch.device("cpu"))


async def test_run_async_gives_the_same(chat_folder):
    generator = LocalChatGenerator(chat_folder, generation_kwargs={"max_new_tokens": 5})
    found = await generator.run_async(MESSAGES)
    assert found["replies"][0].text == generator.run(MESSAGES)["replies"][0].text


def test_survives_a_pipeline_round_trip(chat_folder):
    generator = LocalChatGenerator(
        chat_folder,
        generation_kwargs={"max_new_tokens": 3},
        device=ComponentDevice.from_str("cpu"),
    )
    pipeline = Pipeline()
    pipeline.add_component("generator", generator)
    restored = Pipeline.loads(pipeline.dumps())
    assert restored.get_component("generator").to_dict() == generator.to_dict()
    assert restored.run({"generator": {"messages": MESSAGES}})["generator"]["replies"]


def test_bad_input(chat_folder):
    with pytest.raises(ValueError, match="at least one ChatMessage"):
        LocalChatGenerator(chat_folder).run([])
    with pytest.raises(ModelError, match="there is no model"):
        LocalChatGenerator("./nowhere").warm_up()
