"""One file per benchmark: data layout, vocabulary, background rule, splits."""
