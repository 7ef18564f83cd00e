"""Numbers from label maps: one confusion matrix over the data set, and pure functions of it."""
