"""The service: models behind HTTP, a page to look with, and a client."""
