"""What a reader does: predict, answer, fill in, check, vote."""
