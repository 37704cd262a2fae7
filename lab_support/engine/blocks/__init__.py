"""Blocks of the KV cache by number: which are free, in use, or cached under a key. No sequences and no torch."""
