"""Other servers of language models beside ours: the same model folder, the same client, one table."""
