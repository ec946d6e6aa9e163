"""What a network says, as pictures: heat maps, class activation, surest hits and misses."""
