"""EleutherAI's lm-eval against a server, as users run it: `python -m tests.benchmarks.lm_eval`.

Twenty items of multiple choice and six texts of a perplexity task, by lm-eval's `local-completions` against a real
server, and by its `hf`, which is transformers in its own process. The choices have to be the same, the
log-likelihoods within 0.001 for each token. The model is made in the box and knows little; what is compared is not how
good it is. lm-eval and its libraries go into an environment of their own (1.5 GB, minutes at the first run):
--environment says where. No part of `make test` or `make prove`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from lab_support.config import MODEL_IN_THE_BOX
from tests.proofs import Row
from tests.running_server import running_server

WANTED = ("torch==2.13.0", "transformers==5.24.0", "lm-eval[api,hf]==0.4.13")
PLACE = Path(tempfile.gettempdir()) / "lm-eval-environment"
CLOSE = 1e-3  # for each token

ITEMS = (
    ("A thread is a line of execution inside a", (" process.", " picture.", " kettle.", " river.")),
    ("There was once an API server named Tern, who spoke with", (" clients all day.", " no.", " page 51.", " 7 7 7.")),
    ("Once upon a time there was a small", (" process", " of the", " 2048", " and")),
    ("A process that was forked from a parent has the same", (" memory", " hat", " teeth", " colour of hair")),
    ("What does one mean by a process? A process is a", (" running program.", " bird.", " soup.", " closed window.")),
    ("The kernel gives each process a number of its", (" own.", " none.", " up.", " was.")),
    ("When the parent waits for its child, the child is no longer a", (" zombie.", " king.", " socket.", " page.")),
    ("A socket that listens has a queue of", (" connections.", " kittens.", " letters from home.", " suns.")),
    ("Two processes share one", (" socket", " but", " went", " slowly")),
    ("In Python only one thread at a time runs Python", (" code", " snakes", " rivers", " sleeps")),
    ("The little engine had a GPU of its", (" own", " the", " on", " were")),
    ("A descriptor is a small", (" number", " sea", " loudly", " yesterday")),
    ("fork makes a copy of the", (" parent", " rainbow", " sang", " of")),
    ("The child asked its parent for a", (" descriptor", " under", " were", " quickly")),
    ("A signal interrupts a", (" process", " mountain", " because", " blue")),
    ("The server bound a port and began to", (" listen", " cheese", " of", " the")),
    ("At the end the launcher stopped all its", (" children", " moon", " is", " were")),
    ("spawn starts a fresh", (" interpreter", " fish", " had", " under")),
    ("A pipe has two", (" ends", " Tuesdays", " and", " ran")),
    ("The tokens of an answer come one by", (" one", " blue", " the", " at")),
)
TEXTS = (
    *(" ".join(question + answers[0] for question, answers in ITEMS[at : at + 4]) for at in range(0, 20, 4)),
    "Once upon a time there was a process. " * 40,
)
CHOICES = """\
task: lab_choices
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/items.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{answers}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{metric: acc}]
"""
PERPLEXITY = """\
task: lab_perplexity
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/texts.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}]
"""


def environment(place: Path) -> Path:
    """The Python of an environment that has lm-eval; made where it has not. torch first, or its CUDA comes along."""
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    needed = "import lm_eval, torch, accelerate, tenacity, aiohttp"
    if subprocess.run([python, "-c", needed], capture_output=True).returncode:
        for packages in (WANTED[:1], WANTED):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def write_tasks(folder: Path) -> None:
    lines = {
        "items.jsonl": [{"question": question, "answers": answers} for question, answers in ITEMS],
        "texts.jsonl": [{"text": text} for text in TEXTS],
    }
    for name, entries in lines.items():
        (folder / name).write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    for name, task in (("choices.yaml", CHOICES), ("perplexity.yaml", PERPLEXITY)):
        (folder / name).write_text(task.replace("FOLDER", str(folder)), encoding="utf-8")


def evaluate(python: Path, folder: Path, model: str, arguments: str) -> dict[str, list[dict[str, Any]]]:
    """lm-eval's records of each item, by task."""
    out = folder / f"out-{model}"
    words = ["--model", model, "--model_args", arguments, "--tasks", "lab_choices,lab_perplexity"]
    words += ["--include_path", str(folder), "--output_path", str(out), "--log_samples", "--device", "cpu"]
    own = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [python, "-m", "lm_eval", "run", *words], env=os.environ | own, cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"lm-eval failed with {model}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    noted: dict[str, list[dict[str, Any]]] = {}
    for path in out.rglob("samples_*.jsonl"):
        samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        noted[path.name.split("_2")[0].removeprefix("samples_")] = sorted(samples, key=lambda each: each["doc_id"])
    return noted


def likelihoods(sample: dict[str, Any]) -> list[float]:
    """Of each answer of an item, or of a text."""
    return [float(each[0][0]) if isinstance(each[0], list) else float(each[0]) for each in sample["resps"]]


def compare(server: dict[str, list], transformers: dict[str, list], tokens_of: Any) -> list[Row]:
    pairs = list(zip(server["lab_choices"], transformers["lab_choices"], strict=True))
    ours = [likelihoods(one) for one, _ in pairs]
    theirs = [likelihoods(one) for _, one in pairs]
    same = sum(a.index(max(a)) == b.index(max(b)) for a, b in zip(ours, theirs, strict=True))
    right = sum(a.index(max(a)) == 0 for a in ours)
    far = max(
        abs(x - y) / tokens_of(answer)
        for (question, answers), a, b in zip(ITEMS, ours, theirs, strict=True)
        for answer, x, y in zip(answers, a, b, strict=True)
    )
    texts = list(zip(server["lab_perplexity"], transformers["lab_perplexity"], strict=True))
    drift = max(
        abs(likelihoods(a)[0] - likelihoods(b)[0]) / tokens_of(text) for (a, b), text in zip(texts, TEXTS, strict=True)
    )
    asked = "of lm-eval's local-completions and transformers"
    return [
        Row(f"20 choices {asked}: the same", f"{same} of {len(ours)} ({right} of them right)", same == len(ours) == 20),
        Row(f"log-likelihoods of 80 answers {asked}: ≤ {CLOSE} a token apart", f"{far:.1e}", far <= CLOSE),
        Row(f"log-likelihoods of {len(texts)} texts {asked}: ≤ {CLOSE} a token apart", f"{drift:.1e}", drift <= CLOSE),
    ]


def prove(place: Path = PLACE, model: Path = MODEL_IN_THE_BOX) -> list[Row]:
    python = environment(place)
    with tempfile.TemporaryDirectory(prefix="lm-eval-") as directory:
        folder = Path(directory)
        write_tasks(folder)
        transformers = evaluate(python, folder, "hf", f"pretrained={model},dtype=float32")
        with running_server(model=model, device="cpu", dtype="float32") as server:
            arguments = f"base_url={server.url}/v1/completions,model={server.facts['model']},tokenizer={model}"
            arguments += ",tokenizer_backend=huggingface,num_concurrent=4,max_retries=1"
            noted = evaluate(python, folder, "local-completions", arguments)

            def tokens_of(text: str) -> int:
                return server.post("/tokenize", {"prompt": text}).json()["count"]

            return compare(noted, transformers, tokens_of)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--environment", type=Path, default=PLACE, help="folder of the environment with lm-eval")
    parser.add_argument("--model", type=Path, default=MODEL_IN_THE_BOX)
    given = parser.parse_args()
    rows = prove(given.environment.absolute(), given.model.absolute())
    for row in rows:
        print(f"{'met    ' if row.met else 'NOT MET'}  {row.asked}: {row.measured}")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
