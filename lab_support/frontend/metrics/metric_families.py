"""Every metric of an API server by name, with its help text, labels and buckets. Nothing is counted here.

The names and labels (`model_name`, `engine`) are vLLM's; those that vLLM lacks begin with `lab_`. Several processes
write each metric, so gauges show the value written last by any of them.
"""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 40.0)
FIRST_TOKEN_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 40.0, 160.0)
REQUEST_SECONDS = (0.01, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 480.0)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000)


class Families:
    """All metrics, before their labels are filled in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        of_engine = ("model_name", "engine")
        gauge = partial(Gauge, registry=registry, multiprocess_mode="mostrecent")
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry, labelnames=of_engine)

        self.running = gauge("vllm:num_requests_running", "Sequences in the engine core's batch.", of_engine)
        self.waiting = gauge("vllm:num_requests_waiting", "Sequences that wait for a place in the batch.", of_engine)
        self.cache_usage = gauge("vllm:kv_cache_usage_perc", "Share of KV cache blocks in use; 1 is all.", of_engine)
        self.free_blocks = gauge("lab_engine_free_blocks", "KV cache blocks not in use, cached or not.", of_engine)
        self.total_blocks = gauge("lab_engine_total_blocks", "All KV cache blocks.", of_engine)
        self.abort_steps_max = gauge(
            "lab_engine_abort_steps_max", "Most steps from an abort's arrival to free blocks.", of_engine
        )
        self.preemptions = counter("vllm:num_preemptions", "Sequences preempted for lack of blocks.", of_engine)
        self.prefix_cache_queries = counter(
            "vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", of_engine
        )
        self.prefix_cache_hits = counter(
            "vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache, and not computed.", of_engine
        )
        self.steps = counter("lab_engine_steps", "Steps of the engine core.", of_engine)
        self.aborts = counter("lab_engine_aborts", "Sequences aborted in the engine core.", of_engine)
        self.abort_steps = counter(
            "lab_engine_abort_steps", "Sum over aborts of the steps from arrival to free blocks.", of_engine
        )
        self.engine_prompt_tokens = counter("lab_engine_prompt_tokens", "Prompt tokens computed or cached.", of_engine)
        self.engine_tokens = counter("lab_engine_generation_tokens", "Tokens generated in the engine core.", of_engine)
        self.engine_stage = counter(
            "lab_engine_stage_seconds", "Seconds the engine core spent, by stage of a step.", (*of_engine, "stage")
        )

        self.late_steps = counter("lab_engine_late_steps", "Steps that took Python longer than the pace.", of_engine)
        self.late_seconds = counter("lab_engine_late_seconds", "Seconds by which such steps were late.", of_engine)
        self.unmeasured_steps = counter(
            "lab_engine_unmeasured_steps",
            "Steps with a context outside what the pace was measured with.",
            (*of_engine, "context"),
        )
        self.about = gauge(
            "lab_engine_info",
            "1; its labels say where engine cores compute, or what stands in for a device, and how they batch.",
            (*of_engine, "device", "stand_in", "batching"),
        )

        self.prompt_tokens = counter("vllm:prompt_tokens", "Prompt tokens of submitted sequences.", of_engine)
        self.generation_tokens = counter("vllm:generation_tokens", "Tokens delivered to clients.", of_engine)
        self.success = counter("vllm:request_success", "Sequences that ended.", (*of_engine, "finished_reason"))
        self.first_token = histogram(
            "vllm:time_to_first_token_seconds",
            "Seconds from request to first token.",
            buckets=FIRST_TOKEN_SECONDS,
        )
        self.gaps = histogram("vllm:inter_token_latency_seconds", "Seconds from token to token.", buckets=GAP_SECONDS)
        self.seconds_per_token = histogram(
            "vllm:request_time_per_output_token_seconds",
            "Mean seconds between a sequence's tokens.",
            buckets=GAP_SECONDS,
        )
        self.request_seconds = histogram(
            "vllm:e2e_request_latency_seconds", "Seconds from request to last token.", buckets=REQUEST_SECONDS
        )
        self.prompt_lengths = histogram("vllm:request_prompt_tokens", "Prompt tokens per sequence.", buckets=TOKENS)
        self.output_lengths = histogram("vllm:request_generation_tokens", "Output tokens per sequence.", buckets=TOKENS)

        of_server = ("model_name", "api_server")
        self.rejections = counter("vllm:admission_rejections", "Requests refused: too many (503).", of_server)
        self.requests = counter("lab_api_requests", "Requests answered.", (*of_server, "status"))
        self.api_stage = counter(
            "lab_api_stage_seconds", "Seconds an API server spent on tokens, by stage.", (*of_server, "stage")
        )
        self.cpu = gauge("lab_api_cpu_seconds", "CPU seconds of an API server since its start.", of_server)
