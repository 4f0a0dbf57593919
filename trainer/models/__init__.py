"""What learns: an image tower of timm, a projection head, a text tower of open_clip."""
