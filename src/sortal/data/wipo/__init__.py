"""The WIPO-alpha collection: its XML records, its folders, and the rows they become."""
