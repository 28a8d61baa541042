"""The main job: it checks everything, estimates its time, and composes the stages."""
