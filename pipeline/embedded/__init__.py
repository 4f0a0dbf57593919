"""The embedded text-to-image model and the world of pictograms that it was trained on.

`sprites`, `scenes` and `captions` are the world, `pictograms` makes labelled sets of it, and
`model/` holds the weights; see `MODEL_CARD.md`. The renderer that loads the weights is the ordinary
text-to-image one.
"""
