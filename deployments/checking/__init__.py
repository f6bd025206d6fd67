"""Whether each part is well, and what to do where it is not."""
