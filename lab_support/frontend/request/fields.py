"""Request fields that other servers have and this one lacks: some are refused by name, the others change nothing.

Taken from OpenAI's API, vLLM 0.33 (entrypoints/openai/*/protocol.py), llama.cpp (tools/server/server-task.cpp), SGLang
(srt/entrypoints/openai/protocol.py) and Text Generation Inference. request/FIELDS.md lists them for users.
"""

from typing import Any

from lab_support.frontend.request.openai_api import ChatCompletionRequest, CompletionRequest, TokenizeRequest

_OFF = [None, False]
_NONE = [None]
_EMPTY: list[Any] = [None, []]
_NO_OBJECT: list[Any] = [None, {}]

_OPENAI: dict[str, list[Any]] = {
    "audio": _NONE,
    "function_call": [None, "none"],
    "functions": _EMPTY,
    "logit_bias": [None, {}, []],
    "max_completion_tokens": _NONE,
    "messages": _NONE,
    "modalities": [None, ["text"]],
    "moderation": _NONE,
    "prediction": _NONE,
    "prompt": _NONE,
    "reasoning_effort": [None, "none"],
    "response_format": [None, {"type": "text"}],
    "suffix": [None, ""],
    "tool_choice": [None, "none"],
    "tools": _EMPTY,
    "top_logprobs": [None, 0],
    "verbosity": [None, "medium"],
    "web_search_options": _NONE,
}
_VLLM: dict[str, list[Any]] = {
    "add_generation_prompt": [None, True],
    "allowed_token_ids": _NONE,
    "bad_words": _EMPTY,
    "chat_template": _NONE,
    "chat_template_kwargs": _NO_OBJECT,
    "continue_final_message": _OFF,
    "documents": _EMPTY,
    "ec_transfer_params": _NO_OBJECT,
    "echo": _OFF,
    "guided_choice": _NONE,
    "guided_decoding_backend": _NONE,
    "guided_grammar": _NONE,
    "guided_json": _NONE,
    "guided_json_object": _OFF,
    "guided_regex": _NONE,
    "guided_whitespace_pattern": _NONE,
    "kv_transfer_params": _NO_OBJECT,
    "logits_processors": _EMPTY,
    "logprob_token_ids": _NONE,
    "media_io_kwargs": _NO_OBJECT,
    "mm_processor_kwargs": _NO_OBJECT,
    "priority": [None, 0],
    "prompt_embeds": _EMPTY,
    "repetition_detection": _NONE,
    "return_prompt_text": _OFF,
    "return_token_ids": _OFF,
    "return_tokens_as_token_ids": _OFF,
    "skip_special_tokens": [None, True],
    "stream_interval": [None, 1],
    "structured_outputs": _NONE,
    "thinking_token_budget": [None, -1],
    "truncate_prompt_tokens": _NONE,
    "use_beam_search": _OFF,
    "vllm_xargs": _NO_OBJECT,
    "watermarking": _OFF,
}
_LLAMA_CPP: dict[str, list[Any]] = {
    "adaptive_target": [None, -1],
    "chat_format": _NONE,
    "chat_parser": _NONE,
    "dry_multiplier": [None, 0],
    "dynatemp_range": [None, 0],
    "grammar": [None, ""],
    "grammar_lazy": _OFF,
    "grammar_triggers": _EMPTY,
    "image_data": _EMPTY,
    "json_schema": _NONE,
    "lora": _EMPTY,
    "min_keep": [None, 0],
    "mirostat": [None, 0],
    "n_cmpl": [None, 1],
    "n_indent": [None, 0],
    "n_predict": _NONE,
    "n_probs": [None, 0],
    "parse_tool_calls": _OFF,
    "penalize_nl": _OFF,
    "post_sampling_probs": _OFF,
    "preserved_tokens": _EMPTY,
    "reasoning_budget_tokens": [None, -1],
    "reasoning_format": [None, "none"],
    "repeat_last_n": [None, -1],
    "repeat_penalty": [None, 1],
    "response_fields": _EMPTY,
    "return_progress": _OFF,
    "return_tokens": _OFF,
    "samplers": _NONE,
    "t_max_predict_ms": [None, 0, -1],
    "t_max_prompt_ms": [None, 0, -1],
    "tfs_z": [None, 1],
    "thinking_forced_open": _OFF,
    "timings_per_token": _OFF,
    "top_n_sigma": [None, 0, -1],
    "typical_p": [None, 1],
    "xtc_probability": [None, 0],
}
_SGLANG: dict[str, list[Any]] = {
    "bootstrap_host": _NONE,
    "bootstrap_port": _NONE,
    "bootstrap_room": _NONE,
    "custom_logit_processor": _NONE,
    "custom_params": _NO_OBJECT,
    "ebnf": _NONE,
    "input_ids": _NONE,
    "lora_path": _NONE,
    "no_stop_trim": _OFF,
    "reasoning": _NONE,
    "regex": _NONE,
    "return_cached_tokens_details": _OFF,
    "return_hidden_states": _OFF,
    "return_meta_info": _OFF,
    "return_prompt_token_ids": _OFF,
    "return_routed_experts": _OFF,
    "session_params": _NO_OBJECT,
    "stop_regex": _EMPTY,
    "task": _NONE,
}
_TGI: dict[str, list[Any]] = {
    "adapter_id": _NONE,
    "decoder_input_details": _OFF,
    "details": _OFF,
    "do_sample": [None, True],
    "guideline": _NONE,
    "inputs": _NONE,
    "max_new_tokens": _NONE,
    "parameters": _NO_OBJECT,
    "return_full_text": _OFF,
    "tool_prompt": _NONE,
    "top_n_tokens": [None, 0],
    "truncate": _NONE,
    "watermark": _OFF,
}
_OTHERS: dict[str, list[Any]] = {
    "enable_thinking": _NONE,
    "format": [None, ""],
    "max_length": _NONE,
    "max_output_tokens": _NONE,
    "min_length": [None, 0],
    "min_new_tokens": [None, 0],
    "no_repeat_ngram_size": [None, 0],
    "num_beams": [None, 1],
    "options": _NO_OBJECT,
    "stop_sequences": _EMPTY,
    "thinking": _NONE,
    "top_a": [None, 0],
}
LACKING = _OPENAI | _VLLM | _LLAMA_CPP | _SGLANG | _TGI | _OTHERS
"""Fields that one of our two kinds of request, or both, lack, with the values that change nothing."""


def _lacking(request: type) -> dict[str, list[Any]]:
    own = request.__struct_encode_fields__  # type: ignore[attr-defined]
    return {name: harmless for name, harmless in LACKING.items() if name not in own}


REFUSED: dict[type, dict[str, list[Any]]] = {
    request: _lacking(request) for request in (CompletionRequest, ChatCompletionRequest)
}
"""Field → the values with which it changes nothing; any other value is refused."""

REFUSED[TokenizeRequest] = {  # /tokenize gives a conversation's tokens as a chat has them, or the same refusal
    name: harmless
    for name, harmless in REFUSED[ChatCompletionRequest].items()
    if name not in TokenizeRequest.__struct_fields__
}

IGNORED = frozenset(
    {
        # OpenAI
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        # vLLM
        "early_stopping",
        "include_reasoning",
        "length_penalty",
        "return_mm_kwargs",
        "return_token_offsets",
        "routed_experts_prompt_start",
        "session_id",
        "spaces_between_special_tokens",
        "truncation_side",
        # llama.cpp
        "adaptive_decay",
        "backend_sampling",
        "cache_prompt",
        "dry_allowed_length",
        "dry_base",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "dynatemp_exponent",
        "id_slot",
        "mirostat_eta",
        "mirostat_tau",
        "n_cache_reuse",
        "n_discard",
        "n_keep",
        "reasoning_budget_arm_immediately",
        "reasoning_budget_end_tag",
        "reasoning_budget_message",
        "reasoning_budget_start_tag",
        "speculative.n_max",
        "speculative.n_min",
        "speculative.ngram_m_hits",
        "speculative.ngram_size_m",
        "speculative.ngram_size_n",
        "speculative.p_min",
        "speculative.type",
        "xtc_threshold",
        # SGLang
        "custom_labels",
        "data_parallel_rank",
        "disagg_prefill_dp_rank",
        "extra_key",
        "images_config",
        "max_dynamic_patch",
        "min_dynamic_patch",
        "ngram_corpus_id",
        "rid",
        "routed_dp_rank",
        "routed_experts_start_len",
        "separate_reasoning",
        "stream_reasoning",
        "use_audio_in_video",
    }
)
"""Fields that never change an answer here: notes on the client, hints for speed, and settings of a refused field."""

IGNORED_OPTIONS = frozenset({"include_obfuscation"})
"""Ignored fields of `stream_options`."""
