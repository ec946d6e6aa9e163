"""Which tiles a slide has, how each is read, and what is measured on it."""
