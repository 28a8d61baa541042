"""The Python API: one small file for each verb, and what adapts objects to the stages."""
