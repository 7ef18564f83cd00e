"""Image and text towers: thin dense paths over transformers' models, and what transformers lacks."""
