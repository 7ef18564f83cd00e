"""One file per trained system: RECIPE (paper scale), MINI (ours), TOY (test scale)."""
