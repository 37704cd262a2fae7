"""What all figures are drawn on and with."""
