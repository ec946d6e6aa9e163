"""Networks trained on tiles: models, losses, the loop, what is measured and kept."""
