"""Networks trained on tiles: losses, models, the loop and what it writes."""
