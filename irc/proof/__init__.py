"""What a program promises under `ensure`, decided for all sizes; counterexamples that teach."""
