"""Tokenizers, chat templates, detokenizing."""
