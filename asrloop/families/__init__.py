"""Model families: one folder each, with how it decodes and how its graphs are built, and one row in the registry."""
