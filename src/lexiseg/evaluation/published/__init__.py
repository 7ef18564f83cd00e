"""Lists what the authors of each method measured with.

There is a file per method, named as it is, with values only.

A file offers STUDIES, one for each protocol; where several measured a variant, the first is the usual one. Sections (§)
are those of the pages in docs/papers. A setting that no paper and no code states is left to the method's default, and
the source says so. With blend="logits" logits are upsampled as mmsegmentation and detectron2 do: from the grid to the
resized picture, where windows are averaged, and from there to the photograph.
"""
