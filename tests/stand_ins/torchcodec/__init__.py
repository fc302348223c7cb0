"""
Stands in for torchcodec where that or FFmpeg's libraries are missing: it has as much of torchcodec as `datasets` and
the pipelines of Transformers use of it, and decodes by soundfile.
"""
