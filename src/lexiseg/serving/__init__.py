"""Serves models over HTTP, with a page and a client."""
