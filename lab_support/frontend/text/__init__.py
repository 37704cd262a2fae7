"""Text to token ids and back: tokenizers, chat templates, detokenizing piece by piece."""
