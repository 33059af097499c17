"""One part of a report per file: each takes what a folder holds and answers with a section."""
