"""`sortal report`: one page about a run or a comparison, readable without a network, as HTML, Markdown and JSON.

Read in this order: `source` (what is in the folder), `rows` (the texts), `sections` (what to say), `html` and `markdown` (how it looks).
"""
