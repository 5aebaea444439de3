"""Source to machine code to calls on arrays."""
