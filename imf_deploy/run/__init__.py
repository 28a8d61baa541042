"""A run of the main job: what it is asked for, and the folder that it writes."""
