"""Flags of `vllm serve` that `lab serve` has no use for: accepted if they change nothing here, otherwise refused.

One line names the flag and the reason. The names are those of vLLM 0.33 and of older releases, which scripts still use
(vllm/engine/arg_utils.py, vllm/entrypoints/openai/cli_args.py).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lab_support.config import ConfigError


@dataclass(frozen=True, slots=True)
class Foreign:
    """why: the reason, as the end of a sentence. values: those that change nothing; None: any value, (): no value.

    switch: it takes no value. many: it takes one value or more; those after the first are numbers.
    """

    why: str
    values: tuple[str, ...] | None = None
    switch: bool = False
    many: bool = False


def _taken(why: str, *names: str, values: tuple[str, ...] | None = None) -> dict[str, Foreign]:
    return {name: Foreign(why, values) for name in names}


def _switches(why: str, *names: str) -> dict[str, Foreign]:
    return {name: Foreign(why, None, switch=True) for name in names}


def _refused(why: str, *names: str) -> dict[str, Foreign]:
    return {name: Foreign(why, ()) for name in names}


_ONE_GPU = "each engine core has one GPU here; --data-parallel-size starts several"
_LOGS = "the log has one line for each request, and /metrics has the figures"
_KEYS = "blocks are always found by SHA-256 here"
_NO_IMAGES = "images, audio and video are not supported here"
_NO_COMPILER = "only a few kernels are compiled here"
_CHOSEN = "this server has only one way to do this"
_GRAPHS = "graphs are captured for a few batch sizes up to --max-num-seqs"
_LOCAL = "the model is a local folder, read as it is"
_NO_GRAMMARS = "structured outputs are not supported here, and requests for them are refused"
_NO_LORA = "adapters are not supported here; merge them into the weights"
_NO_TOOLS = "tool calls and reasoning are not parsed out of an answer's text here"
_OWN_SHAPE = "the model's config.json decides; change it there"
_ONE_MACHINE = "all processes are on one machine here"

FOREIGN: dict[str, Foreign] = {
    **_taken(_ONE_GPU, "-tp", "--tensor-parallel-size", "-pp", "--pipeline-parallel-size", values=("1",)),
    **_taken(_ONE_GPU, "-dcp", "--decode-context-parallel-size", "--prefill-context-parallel-size", values=("1",)),
    **_taken(_ONE_MACHINE, "--nnodes", "-n", values=("1",)),
    **_taken(_ONE_MACHINE, "--node-rank", "-r", values=("0",)),
    **_taken(_ONE_MACHINE, "--data-parallel-backend", "-dpb", values=("mp",)),
    **_taken("an engine core is one process", "--distributed-executor-backend", values=("mp", "uni")),
    **_switches(_LOGS, "--disable-log-requests", "--enable-log-requests", "--no-enable-log-requests"),
    **_switches(_LOGS, "--disable-log-stats", "--no-disable-log-stats", "--aggregate-engine-logging"),
    **_switches(_LOGS, "--disable-uvicorn-access-log", "--no-disable-log-requests", "--enable-log-deltas"),
    **_taken(_LOGS, "--max-log-len", "--disable-access-log-for-endpoints"),
    **_taken("--log-level decides how much is logged", "--uvicorn-log-level"),
    **_switches("every answer has x-request-id", "--enable-request-id-headers"),
    **_switches("/load always counts requests", "--enable-server-load-tracking"),
    **_taken(_KEYS, "--prefix-caching-hash-algo"),
    **_switches("long prompts are always computed in chunks", "--enable-chunked-prefill"),
    **_switches("a step always waits for the one before", "--async-scheduling", "--no-async-scheduling"),
    **_taken("the scheduler does one step at a time", "--num-scheduler-steps", values=("1",)),
    **_taken("sequences are scheduled in the order of arrival", "--scheduling-policy", values=("fcfs",)),
    **_taken("a preempted sequence is computed again", "--preemption-mode", values=("recompute",)),
    **_taken("a preempted sequence is computed again", "--swap-space"),
    **_switches(_CHOSEN, "--use-v2-block-manager", "--disable-custom-all-reduce", "--disable-cascade-attn"),
    **_switches(_CHOSEN, "--enable-expert-parallel", "--use-tqdm-on-load", "--no-use-tqdm-on-load"),
    **_taken(_CHOSEN, "--tokenizer-pool-size", "--tokenizer-pool-type", "--max-parallel-loading-workers"),
    **_taken(_CHOSEN, "--tokenizer-mode", values=("auto", "hf", "fast")),
    **_taken(_CHOSEN, "--task", "--runner", values=("auto", "generate")),
    **_taken(_CHOSEN, "--convert", values=("auto", "none")),
    **_taken(_CHOSEN, "--model-impl", values=("auto", "vllm")),
    **_taken(_CHOSEN, "--config-format", values=("auto", "hf")),
    **_taken(_CHOSEN, "--response-role", values=("assistant",)),
    **_taken(_CHOSEN, "--max-logprobs", values=("20",)),
    **_taken(_CHOSEN, "--logprobs-mode", values=("raw_logprobs",)),
    **_taken("the KV cache has the type of --dtype", "--kv-cache-dtype", values=("auto",)),
    **_taken("no weights are left on the host", "--cpu-offload-gb", values=("0", "0.0")),
    **_taken(_LOCAL, "--revision", "--code-revision", "--tokenizer-revision", "--download-dir", "--hf-token"),
    **_taken(_NO_IMAGES, "--limit-mm-per-prompt", "--allowed-local-media-path", "--mm-processor-cache-gb"),
    **_switches(_NO_IMAGES, "--language-model-only", "--disable-mm-preprocessor-cache", "--skip-mm-profiling"),
    **_taken(_NO_COMPILER, "--compilation-config", "-cc", "-O", "--optimization-level"),
    **_taken("decode graphs are captured for any length", "--max-seq-len-to-capture"),
    "--cuda-graph-sizes": Foreign(_GRAPHS, many=True),
    "--cudagraph-capture-sizes": Foreign(_GRAPHS, many=True),
    **_taken(_NO_GRAMMARS, "--guided-decoding-backend", "--structured-outputs-config"),
    **_taken("allowed origins may send any header", "--allowed-methods", "--allowed-headers", values=('["*"]',)),
    **_taken(_LOCAL, "--ignore-patterns"),
    **_refused("each request has its own random numbers here; give a `seed` in the request", "--seed"),
    **_refused("weights are used as they are here; give an unquantized model", "--quantization", "-q"),
    **_refused("the tokenizer is the model folder's own here; put its files there", "--tokenizer"),
    **_refused("the template is the model folder's own here; put it there as chat_template.jinja", "--chat-template"),
    **_refused("texts are always tokenized and decoded here", "--skip-tokenizer-init"),
    **_refused(_NO_LORA, "--enable-lora", "--lora-modules", "--max-loras", "--max-lora-rank"),
    **_refused(_NO_LORA, "--enable-prompt-adapter"),
    **_refused(_NO_TOOLS, "--enable-auto-tool-choice", "--tool-call-parser", "--tool-parser-plugin", "--tool-server"),
    **_refused(_NO_TOOLS, "--reasoning-parser", "--enable-reasoning"),
    **_refused(_OWN_SHAPE, "--rope-scaling", "--rope-theta", "--hf-overrides", "--hf-config-path"),
    **_refused(_OWN_SHAPE, "--disable-sliding-window", "--pooler-config", "--override-attention-dtype"),
    **_refused("speculative decoding is not supported here", "--speculative-config", "-sc", "--speculative-model"),
    **_refused("long prompts are always computed in chunks here", "--no-enable-chunked-prefill"),
    **_refused("prompts are computed in the order of arrival here", "--max-num-partial-prefills",
               "--max-long-partial-prefills", "--long-prefill-token-threshold", "--scheduler-cls"),
    **_refused("--num-gpu-blocks-override sets the size", "--kv-cache-memory-bytes", "--kv-cache-memory"),
    **_refused("this server speaks plain HTTP; put a proxy with the certificate in front of it", "--ssl-keyfile",
               "--ssl-certfile", "--ssl-ca-certs", "--ssl-cert-reqs", "--enable-ssl-refresh"),
    **_refused("routes have no path prefix here; let the proxy strip it", "--root-path"),
    **_refused("only the server's own code runs between the port and the routes here", "--middleware"),
    **_refused("browsers' cookies are not used here", "--allow-credentials"),
    **_refused("/docs can't be switched off here", "--disable-fastapi-docs"),
    **_refused("usage is reported only if a request's stream_options ask for it", "--enable-force-include-usage"),
    **_refused("tokens are reported as text here", "--return-tokens-as-token-ids"),
    **_refused("only this server's own attention is available", "--attention-backend", "--attention-config"),
    **_refused("the launcher, the API servers and the engine cores are always processes of their own here",
               "--disable-frontend-multiprocessing", "--grpc"),
    **_refused(_ONE_MACHINE, "--data-parallel-size-local", "-dpl", "--data-parallel-rank", "-dpn",
               "--data-parallel-hybrid-lb",
               "--data-parallel-external-lb", "--master-addr", "--master-port", "--kv-transfer-config",
               "--ec-transfer-config", "--kv-events-config", "--enable-elastic-ep"),
    **_refused("weights stay on their device here", "--enable-sleep-mode", "--model-loader-extra-config"),
    **_refused("logs and figures are in one place here: stderr and /metrics", "--log-config-file",
               "--enable-log-outputs"),
    **_refused("traces go to files here, not to a collector; use --trace-dir", "--otlp-traces-endpoint",
               "--collect-detailed-traces"),
    **_refused("flags are given on the command line here", "--config"),
    **_refused("header limits are fixed here", "--h11-max-incomplete-event-size", "--h11-max-header-count"),
    **_refused("only a request's own fields change logits here", "--logits-processors",
               "--logits-processor-pattern"),
}  # fmt: skip
_VALUES_OF_OWN = {"--load-format": {"safetensors": "auto", "hf": "auto"}}
"""vLLM's other values for our own flags."""

_FLAG = re.compile(r"(--?[A-Za-z][A-Za-z0-9_-]*)(\.[^=]*)?(?:=(.*))?", re.DOTALL)


def with_dashes(words: Iterable[str]) -> list[str]:
    """`--max_model_len=5` becomes `--max-model-len=5`, because vLLM accepts both."""
    made = []
    for word in words:
        name, equals, value = word.partition("=")
        made.append((name.replace("_", "-") if name.startswith("--") else name) + equals + value)
    return made


def without_foreign(words: list[str], own: Iterable[str]) -> tuple[list[str], list[str]]:
    """The remaining arguments, and a notice for each flag that was removed. Raises `ConfigError`.

    own: names of this server's flags, which win over the table.
    """
    foreign = {name: each for name, each in FOREIGN.items() if name not in own}
    left: list[str] = []
    said: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, value = _split(word)
        if name not in foreign:
            left.append(_in_own_words(word, name, value, rest))
            continue
        said.append(_judged(name, foreign[name], _values(foreign[name], value, rest)))
    return left, said


def _values(flag: Foreign, value: str | None, rest: list[str]) -> list[str]:
    """A flag's values, removed from the arguments after it."""
    if value is not None:
        return [value]
    if flag.switch or not rest or _is_flag(rest[0]):
        return []
    values = [rest.pop(0)]
    while flag.many and rest and rest[0].isdecimal():
        values.append(rest.pop(0))
    return values


def _split(word: str) -> tuple[str, str | None]:
    """A flag's name and the value in the same word; "" if the word is not a flag."""
    if word.startswith("-O"):
        return "-O", word[2:] or None
    found = _FLAG.fullmatch(word)
    return (found[1], found[3]) if found else ("", None)


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.match(r"-[0-9.]", word)


def _in_own_words(word: str, name: str, value: str | None, rest: list[str]) -> str:
    known = _VALUES_OF_OWN.get(name, {})
    if value is None and rest and rest[0] in known:
        rest[0] = known[rest[0]]
    return f"{name}={known[value]}" if value in known else word


def _judged(name: str, flag: Foreign, values: list[str]) -> str:
    got = " ".join(values)
    if flag.values is None or (len(values) == 1 and values[0] in flag.values):
        return f"{name}: accepted, but changes nothing here: {flag.why}"
    if not flag.values:
        raise ConfigError(f"{name}: {flag.why}; leave it out" if ";" not in flag.why else f"{name}: {flag.why}")
    raise ConfigError(f"{name}: got {got or 'nothing'}, expected {' or '.join(flag.values)}: {flag.why}")
