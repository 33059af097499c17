"""A prediction server for model folders: HTTP in front, one thread with the models behind, waiting texts between them.

``serve`` starts it. ``guard`` decides about a request before its words are read, ``app`` has the endpoints and ``shapes`` their
JSON, ``batcher`` and ``waiting`` put the texts of many requests into one forward, ``models`` gives the answers, ``occlusion``
tells which words mattered. ``pages`` sends the files in ``page/``, which ask the same endpoints from a browser.
"""
