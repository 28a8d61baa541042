"""The Python API: one small file for each verb, and adapters from objects to the stages."""
