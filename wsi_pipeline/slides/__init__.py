"""From a file to pixels: one reader protocol, several backends."""
