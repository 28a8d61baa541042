"""Everything specific to one type of task, such as single-label classification."""
