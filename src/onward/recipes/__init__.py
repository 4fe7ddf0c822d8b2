"""Ready-made tasks: models of text and of tables of sequences."""
