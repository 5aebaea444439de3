"""Programs as C functions: plans as entries, what these check first, and the files of a library."""
