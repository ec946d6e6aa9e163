"""Where the tissue is: overview to mask, mask to coverage."""
