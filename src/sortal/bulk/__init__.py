"""Prediction over many and large files: planned, cut into shards, resumable, on this machine or on a Ray cluster.

``inputs`` finds the files and ``outputs`` names what is written; ``plan`` reads every file once and cuts it into shards; an engine
(``local``, ``ray_engine``) scores them and stores each in the ``work`` folder; ``predict`` puts the finished ones together.
"""
