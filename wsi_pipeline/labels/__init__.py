"""What is known of tiles beside their pixels: labels, quality, splits."""
