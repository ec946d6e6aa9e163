"""Networks: how they are made, what they minimise, and the loop that trains them."""
