"""The reader's moves: predict, answer, fill in, check, vote."""
