"""One answer: its choices, stop strings and log-probabilities, streamed or whole."""
