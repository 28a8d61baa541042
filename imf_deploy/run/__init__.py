"""A run of the main job: its settings, and the folder that it writes."""
