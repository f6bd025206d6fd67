"""What engines say of people: where it lies, and how it is removed from there."""
