"""Reads words as people write them, by one grammar.

They are texts, lists and mappings:

    "road, car, person|pedestrian"          commas between classes, bars between the words of one class
    "road; car", "road\\ncar", "1. road ..."  other separators, lines, numbers and bullets, where only one reading fits
    "vehicle: car|bus, road"                a name before the words that stand for it
    ["road", ("person", "pedestrian")]      a class each, in either form
    {"vehicle": ["car", "bus"]}             names and words
    {"7": "road", "12": ["car", "van"]}     ids and words; {"road": 7} is the same
    [{"id": 7, "name": "road", "synonyms": ["street"]}]

Whatever could mean two things raises a `VocabularyError` that asks. `files` reads text, JSON, YAML and CSV files.
"""
