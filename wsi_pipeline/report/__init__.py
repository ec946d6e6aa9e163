"""What people look at; computes nothing, only shows."""
