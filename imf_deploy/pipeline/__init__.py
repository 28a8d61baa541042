"""The main job: check everything, estimate the time, and run the stages."""
