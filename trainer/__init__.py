"""Learns an image encoder from a shard set and scores it.

Imports neither `pipeline` nor `prompts`, Ray or diffusers.
"""
