"""Collections in formats of their own as files that ``sortal train`` reads: shards converted by several processes, resumable.

``shards`` cuts the list of files and converts a piece of it, ``workers`` shares the pieces among processes, ``summary`` counts what was
found, ``wipo`` puts all of it together.
"""
