"""Writes label maps as files and pictures.

Arrays and plain values come in; bytes, pictures or JSON values go out.
"""
