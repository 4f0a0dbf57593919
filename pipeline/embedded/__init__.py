"""The embedded text-to-image model and the small world of handwriting it was trained on.

`world` is the real data (glyphs, splits, captions, paint) and `model/` the weights; see
`MODEL_CARD.md` there. The renderer that loads the weights is the ordinary text-to-image one.
"""
