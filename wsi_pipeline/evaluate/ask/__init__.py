"""Networks asked for tiles: which tiles, in which parts, by which members; what is known already."""
