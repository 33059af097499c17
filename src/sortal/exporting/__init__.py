"""A model folder in the form that another runtime loads, and the proof that it gives the same answers there.

One format is one file behind `formats.REGISTRY`; what an export is checked against and how is the same for all (`export`).
"""
