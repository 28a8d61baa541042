"""What is particular to one kind of problem, such as single-label classification."""
