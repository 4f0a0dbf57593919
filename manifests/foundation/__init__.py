"""What both programs stand on and the format knows nothing of: settings, plug-ins, errors, files.

Imports nothing else of this project. It lies inside `manifests` because that is the one package
which the pipeline and the trainer share.
"""
