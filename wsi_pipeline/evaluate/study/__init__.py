"""A study of arms and repeats: what is asked, what was found, what it says."""
