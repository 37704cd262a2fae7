"""One answer: its choices, stop strings, log-probabilities, as a stream or as a whole."""
